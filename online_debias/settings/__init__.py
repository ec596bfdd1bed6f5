"""Settings of a run: YAML files and options, and what is said when they cannot be used.

May import: runs and all below, and names callbacks by their import paths.
"""
