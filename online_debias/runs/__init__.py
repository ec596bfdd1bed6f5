"""One method on one data set, from settings to results.json.

May import: training, engine, data, functional, runtime, errors.
"""
