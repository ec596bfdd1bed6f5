"""Published biased sets, one file each.

May import: data (its base classes), data.biasing, data.own, data.reading, runtime, errors.
"""
