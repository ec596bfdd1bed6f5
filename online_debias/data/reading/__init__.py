"""Files and layouts, as they lie on disk. May import: errors, runtime."""
