"""Half-space trees. May import: detectors (the base classes), functional, runtime, errors."""
