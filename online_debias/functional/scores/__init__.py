"""Maths of scores: how to compute them and where to cut. May import: functional."""
