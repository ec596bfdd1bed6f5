"""Methods x data x seeds: the grid of runs, the processes that do them, tables and plots.

May import: settings and all below.
"""
