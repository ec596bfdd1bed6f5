"""The machine and its files: devices, ranks, random streams, checkpoints, scores.csv.

May import: errors.
"""
