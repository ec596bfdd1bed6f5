"""Detectors by class means. May import: detectors (the base classes), functional."""
