"""Speed of half-space trees, scoring and learning, beside river's on the same trees.

python benchmarks/detectors.py [--quick] [--out FILE]

One thread, CPU time. Both sides take turns in one process, so that a busy machine slows both; the
medians over the rounds are written to benchmarks/results/detectors.csv.
"""

from __future__ import annotations

import argparse
import csv
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from river.anomaly import HalfSpaceTrees as River

from online_debias.detectors import HalfSpaceTrees
from online_debias.detectors.river import as_dicts, river_trees, score_then_learn

BATCH, CLASSES, BATCHES = 128, 10, 64
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("mass", {"n_trees": 25, "height": 8, "fold": 250, "retention": 0.0, "normalizer": "none"}),
    ("posterior", {"n_trees": 100, "height": 6, "fold": 512}),
]
WIDTHS = (32, 128)


def cpu_time(work: Callable[[], object]) -> float:
    """Return the CPU time of a piece of work, in seconds."""
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(score: str, settings: dict[str, Any], width: int, rounds: int) -> list[dict[str, Any]]:
    """Return one row for river and one for ours."""
    trees, height, window = settings["n_trees"], settings["height"], settings["fold"]
    random = torch.Generator().manual_seed(0)
    x = torch.rand(BATCHES, BATCH, width, generator=random)
    y = torch.randint(CLASSES, (BATCHES, BATCH), generator=random)
    mass = torch.ones(BATCH)
    model: Any = River(n_trees=trees, height=height, window_size=window, seed=0)
    few = [as_dicts(rows) for rows in x[:4]]
    score_then_learn(model, few[0])
    detector = HalfSpaceTrees(score=score, classes=score == "posterior", **settings)  # type: ignore[arg-type]
    detector.setup(width, CLASSES, "cpu", seed=0)
    detector.plant(*river_trees(model))

    def theirs() -> None:
        for rows in few:
            score_then_learn(model, rows)

    def ours() -> None:
        for rows, targets in zip(x, y, strict=True):
            detector.step(rows, targets, mass)

    ours()  # warm-up
    pairs = [(cpu_time(theirs) / len(few), cpu_time(ours) / BATCHES) for _ in range(rounds)]
    common = {"trees": trees, "height": height, "width": width, "batch": BATCH, "window": window}
    versions = {
        "torch": torch.__version__,
        "river": version("river"),
        "python": platform.python_version(),
    }
    rows = []
    for name, side in (("river", 0), (score, 1)):
        seconds = statistics.median(pair[side] for pair in pairs)
        ratio = statistics.median(pair[0] / pair[side] for pair in pairs)
        figures = {
            "samples_per_second": round(BATCH / seconds),
            "ratio_to_river": round(ratio, 1),
            "microseconds_per_batch": round(1e6 * seconds),
        }
        rows.append({"detector": name, **common, **figures, **versions})
    return rows


def main() -> None:
    """Measure, print a table, write the results."""
    results = Path(__file__).parent / "results" / "detectors.csv"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 25")
    parser.add_argument("--out", type=Path, default=results, help="CSV file to write")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for score, settings in SETTINGS:
        for width in WIDTHS:
            rows += measure(score, settings, width, rounds=3 if args.quick else 25)
    columns = list(rows[0])[:-3]
    print(" ".join(f"{column:>{max(9, len(column))}}" for column in columns))
    for row in rows:
        print(" ".join(f"{row[column]:>{max(9, len(column))}}" for column in columns))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()
