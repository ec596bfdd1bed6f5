"""A user's own images: folders, tables, data sets. May import: data.reading, errors."""
