"""A user's own images: folders, tables, data sets.

May import: data (its base classes), data.reading, runtime, errors.
"""
