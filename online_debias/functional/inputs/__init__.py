"""Maths of image rows: warping, mixing, copying. May import: nothing of this library."""
