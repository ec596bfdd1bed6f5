"""Of rows of images: warping, mixing, copying. May import: nothing of this library."""
