"""Scores that tell rows apart, and how to part them. May import: functional."""
