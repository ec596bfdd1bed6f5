r"""Methods x seeds on one data set: unbiased accuracy, detection and cost, into one CSV.

    python benchmarks/quality.py --name demo --methods plain two-step online -- --epochs 8
    python benchmarks/quality.py --name biased_mnist_98 -- --data BiasedMNIST --data.root DIR \
        --data.n_train 10000 --data.rho 0.98

What follows `--` are settings of `online-debias train`, the same for every method. A seed is that
of training and of the data. Every number is of the last epoch; nothing is chosen by it. Runs that
are finished are not run again, unfinished ones go on from their checkpoint.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from online_debias import results
from online_debias.commands.train import train

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Run what is missing and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", required=True, help="of the CSV and of the folder of runs")
    parser.add_argument("--methods", nargs="+", default=["plain", "two-step", "online"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where runs are kept")
    parser.add_argument("settings", nargs="*", help="settings of `online-debias train`, after --")
    given = parser.parse_args()
    runs = [
        _run(given.runs / given.name / f"{method}-{seed}", method, seed, given.settings)
        for seed in given.seeds
        for method in given.methods
    ]
    results.write_csv(HERE / "results" / f"{given.name}.csv", runs)


def _run(folder: Path, method: str, seed: int, settings: list[str]) -> dict[str, object]:
    finished = folder / "results.json"
    if finished.is_file():
        found: dict[str, object] = json.loads(finished.read_text())
        return found
    if (folder / "config.yaml").is_file():
        return train(["--resume", str(folder)])
    seeds = ["--seed", str(seed), "--data", "BiasedDigits", *settings, "--data.seed", str(seed)]
    return train(["--method", method, *seeds, "--run", str(folder)])


if __name__ == "__main__":
    main()
