"""Published biased sets, one file each. May import: data.biasing, data.reading, runtime, errors."""
