"""One method on one data set, from settings to results.json.

May import: training, engine, data, functional, runtime, errors.
"""

from online_debias.runs.pipeline import OneRun as OneRun
