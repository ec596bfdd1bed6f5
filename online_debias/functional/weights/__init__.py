"""Weights and sampling factors of rows, clusters and groups. May import: functional."""
