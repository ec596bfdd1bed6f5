"""Files and layouts, as they lie on disk.

May import: data (its base classes), runtime, errors.
"""
