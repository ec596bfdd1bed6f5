"""Is the verdict right? Seeded trials with and without a bias.

    python benchmarks/robustness/verdict.py [--root DIR] [--quick]

Each trial is an `online` run on biased data of another seed, of three epochs on digits and, with
DIR holding MNIST, Fashion-MNIST and CIFAR-10, of two epochs on 10,000 images whose views tell about
half of the classes, and of six on as many whose bias is a part of the image, or that have none. The
verdict is what its results.json says. Writes benchmarks/results/verdict.csv.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch

from online_debias.cli import train

RESULTS = Path(__file__).resolve().parents[1] / "results/verdict.csv"
# The first seeds were looked at when the thresholds were set.
SEEDS, UNBIASED_SEEDS, CONTROL_SEEDS = range(20, 23), range(20, 38), range(20, 26)
VARIANTS, RATIOS = ("bg", "fg", "patch"), (0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
WEAK = (  # what it is, share of bias-aligned images, whether to act, data
    ("corrupted CIFAR-10", 0.95, True, ["CorruptedCIFAR10", "--data.skew", "0.05"]),
    ("corrupted CIFAR-10", 0.98, True, ["CorruptedCIFAR10", "--data.skew", "0.02"]),
)
NOISY = "corrupted_mnist.SpoiledMNIST"  # beside this file
PARTS = (  # what it is, share of bias-aligned images or None, data
    ("dominoes", 0.95, ["Dominoes"]),
    ("dominoes", 0.99, ["Dominoes"]),
    ("dominoes on CIFAR-10", 0.95, ["Dominoes", "--data.bottom", "CIFAR10"]),
    ("dominoes", None, ["Dominoes"]),
    ("dominoes on CIFAR-10", None, ["Dominoes", "--data.bottom", "CIFAR10"]),
    ("MNIST", None, ["BiasedMNIST"]),
    ("MNIST, 5 % wrong labels", None, [NOISY, "--data.noise", "0.05"]),
    ("Fashion-MNIST", None, ["BiasedFashionMNIST"]),
)


class Trial(NamedTuple):
    """One run, and what its verdict should be."""

    variant: str
    rho: float | None  # None: there is no bias
    seed: int
    expected: bool
    settings: list[str]


def digits(quick: bool) -> list[Trial]:
    """Return the trials on digits."""
    found = []
    for variant, rho in product(VARIANTS, (*RATIOS, None)):
        settings = ["--data", "BiasedDigits", "--data.variant", variant, "--epochs", "3"]
        settings += ["--data.rho", str(rho or 0.1)]
        for seed in (SEEDS if rho else UNBIASED_SEEDS)[: 1 if quick else None]:
            found.append(Trial(variant, rho, seed, rho is not None, settings))
    return found


def weak(root: str, quick: bool) -> list[Trial]:
    """Return the trials where a view tells about half of the classes."""
    size = ["--data.root", root, "--data.n_train", "10000", "--epochs", "2"]
    return [
        Trial(variant, rho, seed, expected, ["--data", *data, *size])
        for variant, rho, expected, data in WEAK
        for seed in SEEDS[: 1 if quick else None]
    ]


def parts(root: str, quick: bool) -> list[Trial]:
    """Return the trials where a part of the image is the bias, or where there is none."""
    size = ["--data.root", root, "--data.n_train", "10000", "--epochs", "6"]
    return [
        Trial(
            variant, rho, seed, bool(rho), ["--data", *data, "--data.rho", str(rho or 0.1), *size]
        )
        for variant, rho, data in PARTS
        for seed in (SEEDS if rho else CONTROL_SEEDS)[: 1 if quick else None]
    ]


def run(trial: Trial, folder: Path) -> dict[str, Any]:
    """Return what one run says."""
    shutil.rmtree(folder, ignore_errors=True)
    seeds = ["--data.seed", str(trial.seed), "--seed", str(trial.seed)]
    size = ["--model.widths", "[8, 16, 32]"]
    found = train.train(
        ["--method", "online", *trial.settings, *seeds, *size, "--run", str(folder)]
    )
    return {
        "variant": trial.variant,
        "rho": "" if trial.rho is None else trial.rho,
        "seed": trial.seed,
        "expected": int(trial.expected),
        "shortcut": int(found["shortcut"]),
        "evidence": found["shortcut_evidence"],
        "followed": found.get("shortcut_followed", ""),
        "part": found.get("part_evidence", ""),
        "auroc": round(found.get("detect_auroc", float("nan")), 4),
    }


def main() -> None:
    """Run the trials and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--root", help="folder with MNIST, Fashion-MNIST and CIFAR-10")
    parser.add_argument("--quick", action="store_true", help="a seed each; nothing is written")
    given = parser.parse_args()
    torch.set_num_threads(1)
    trials = digits(given.quick)
    if given.root:
        trials += weak(given.root, given.quick) + parts(given.root, given.quick)
    rows = [run(trial, Path("runs/verdict")) for trial in trials]
    right = sum(row["shortcut"] == row["expected"] for row in rows)
    print(f"{right} of {len(rows)} verdicts are right")
    if not given.quick:
        with RESULTS.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
