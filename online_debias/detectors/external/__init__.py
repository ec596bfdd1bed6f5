"""Detectors of other libraries, by import path. May import: functional, errors."""
