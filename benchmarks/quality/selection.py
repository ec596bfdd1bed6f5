"""Compare rules that choose an epoch, or a method and an epoch, on the runs of a comparison.

`python benchmarks/quality/selection.py --config benchmarks/quality/selection.yaml` writes
benchmarks/results/selection.csv: mean, deviation and number of seeds of the test accuracies of the
epoch that each rule chooses and, as a bound that is no rule, the highest of any epoch. The method
"any of them" is the one that, at its best epoch, the rule holds to be the best of a seed.
"""

from __future__ import annotations

import csv
import io
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import get_args

from online_debias.cli.compare import parse
from online_debias.comparison.grid import PlannedRun, planned_runs
from online_debias.runtime import metrics_csv
from online_debias.runtime.checkpoint import write_whole
from online_debias.training.epoch_selection import PSEUDO, Selection, select

RESULTS = Path(__file__).resolve().parents[1] / "results/selection.csv"
METRICS = ("accuracy_unbiased", "accuracy_worst_group")
COLUMNS = ("data", "ratio", "method", "rule", "metric", "mean", "sd", "n")
JUDGED_BY = {  # rule -> metric of the validation split
    "best-biased-validation": "accuracy",
    "pseudo-group-validation": PSEUDO,
    "oracle-validation": "accuracy_unbiased",
}
BOUND, ANY = "highest of any epoch", "any of them"
Key = tuple[str, float | None, str, str, str]


def main() -> None:
    """Write the results file."""
    values: dict[Key, list[float]] = defaultdict(list)
    of_seed: dict[tuple[str, float | None, int], list[PlannedRun]] = defaultdict(list)
    for run in planned_runs(parse(sys.argv[1:])):
        of_seed[run.data, run.ratio, run.seed].append(run)
        for rule in get_args(Selection):
            _note(values, run, run.method, rule)
    for found in of_seed.values():
        for rule, metric in JUDGED_BY.items():
            best = max(found, key=lambda run: highest(run, "validation", metric))
            _note(values, best, ANY, rule)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for key, seen in values.items():
        spread = statistics.stdev(seen) if len(seen) > 1 else 0.0
        writer.writerow([*key, f"{statistics.fmean(seen):.4f}", f"{spread:.4f}", len(seen)])
    write_whole(RESULTS, text.getvalue().encode())


def _note(values: dict[Key, list[float]], run: PlannedRun, method: str, rule: Selection) -> None:
    found = run.results()
    if found is None:
        raise SystemExit(f"{run.title} is not finished; run `online-debias compare` first.")
    chosen = select(found, run.folder / "metrics.csv", rule)
    for metric in METRICS:
        values[run.data, run.ratio, method, rule, metric].append(chosen[metric])
        if rule == "last":
            bound = highest(run, "test", metric)
            values[run.data, run.ratio, method, BOUND, metric].append(bound)


def highest(run: PlannedRun, split: str, metric: str) -> float:
    """Return the highest value that a split's metric had after any epoch."""
    rows = metrics_csv.read(run.folder / "metrics.csv")
    return max(row.value for row in rows if (row.split, row.name) == (split, metric))


if __name__ == "__main__":
    main()
