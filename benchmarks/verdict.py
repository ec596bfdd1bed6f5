"""Is the verdict right? Seeded trials on digits with and without a bias.

    python benchmarks/verdict.py [--quick]

Each trial is an `online` run of three epochs on biased digits of another seed; the verdict is what
its results.json says. Writes benchmarks/results/verdict.csv.
"""

from __future__ import annotations

import csv
import shutil
import sys
from itertools import product
from pathlib import Path

import torch

from online_debias.commands import train

RESULTS = Path(__file__).resolve().parent / "results/verdict.csv"
VARIANTS = ("bg", "fg", "patch")
# The first seeds were looked at when the threshold was set.
BIASED, SEEDS = (0.9, 0.95, 0.98, 0.99, 0.995, 0.999), range(20, 23)
UNBIASED, UNBIASED_SEEDS = 0.1, range(20, 38)


def trials(quick: bool) -> list[tuple[str, float, int]]:
    """Return variant, share of bias-aligned images and seed of each trial."""
    found = list(product(VARIANTS, BIASED, SEEDS[: 1 if quick else None]))
    return found + list(product(VARIANTS, [UNBIASED], UNBIASED_SEEDS[: 1 if quick else None]))


def trial(variant: str, rho: float, seed: int, folder: Path) -> dict[str, object]:
    """Return what one run says."""
    shutil.rmtree(folder, ignore_errors=True)
    data = ["--data", "BiasedDigits", "--data.variant", variant, "--data.rho", str(rho)]
    seeds = ["--data.seed", str(seed), "--seed", str(seed)]
    size = ["--epochs", "3", "--model.widths", "[8, 16, 32]"]
    found = train.train(["--method", "online", *data, *seeds, *size, "--run", str(folder)])
    return {
        "variant": variant,
        "rho": rho,
        "seed": seed,
        "shortcut": int(found["shortcut"]),
        "evidence": found["shortcut_evidence"],
        "auroc": round(found.get("detect_auroc", float("nan")), 4),
    }


def main() -> None:
    """Run the trials and write the file."""
    torch.set_num_threads(1)
    quick, folder = "--quick" in sys.argv[1:], Path("runs/verdict")
    rows = [trial(*one, folder) for one in trials(quick)]
    right = sum(row["shortcut"] == (row["rho"] != UNBIASED) for row in rows)
    print(f"{right} of {len(rows)} verdicts are right")
    if not quick:
        with RESULTS.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
