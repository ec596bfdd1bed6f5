"""What speed and memory are allowed to be, beside what was measured."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

SMALL, RESNET = "SmallConvNet, 28 pixels, batch 128", "ResNet-18, 64 pixels, batch 32"


class Budget(NamedTuple):
    """A bound, and the cell of a results file that it is put on."""

    what: str
    bound: str  # "at most" or "at least"
    value: float
    file: str
    row: dict[str, str]
    column: str


def _step(what: str, value: float, setting: str, loop: str, file: str = "step_cost") -> Budget:
    row = {"setting": setting, "loop": loop}
    return Budget(f"{what} / by hand", "at most", value, file, row, "ratio_to_by_hand")


def _trees(detector: str, window: str, value: float) -> Budget:
    row = {"detector": detector, "trees": "25", "height": "8", "width": "128", "batch": "128"}
    row |= {"window": window}
    what = f"half-space trees ({detector}), windows of {window} / river, samples a second"
    return Budget(what, "at least", value, "detectors", row, "ratio_to_river")


BUDGETS = (
    _step("a step of plain training, small network", 1.02, SMALL, "plain"),
    _step("a step of `online`, small network", 1.10, SMALL, "online"),
    _step("a step of `online`, ResNet-18", 1.05, RESNET, "online"),
    Budget(
        "a step of Lightning without callbacks, small network / plain training",
        "at least",
        1.0,
        "step_cost",
        {"setting": SMALL, "loop": "Lightning, no callbacks"},
        "ratio_to_plain",
    ),
    _step("peak memory of `online`, small network", 1.10, SMALL, "online", "memory"),
    _step("peak memory of `online`, ResNet-18", 1.10, RESNET, "online", "memory"),
    _trees("mass", "250", 40),
    _trees("mass, compiled", "250", 40),
    _trees("mass", "4000", 80),
    _trees("mass, compiled", "4000", 80),
    Budget(
        "milliseconds a step of a forest of 100 trees, 10 classes, 128 features",
        "at most",
        0.5,
        "scale",
        {"what": "HalfSpaceTrees, 100 trees", "classes": "10", "features": "128"}
        | {"measure": "milliseconds a step"},
        "value",
    ),
    Budget(
        "evaluation with 100 groups / forward passes",
        "at most",
        1.5,
        "loading",
        {"what": "evaluation, 100 groups"},
        "ratio",
    ),
    Budget(
        "seconds to import the package, beyond torch's",
        "at most",
        0.3,
        "startup",
        {"what": "import the package"},
        "beyond_torch",
    ),
    Budget("seconds of `--help`", "at most", 1.0, "startup", {"what": "--help"}, "seconds"),
)


def table(results: Path) -> str:
    """Return a line for each budget, measured by the files of a folder."""
    lines = ["| what | budget | measured | kept |", "|---|---|---:|---|"]
    for budget in BUDGETS:
        found = measured(budget, results)
        kept = found <= budget.value if budget.bound == "at most" else found >= budget.value
        cells = [budget.what, f"{budget.bound} {budget.value:g}", f"{found:g}"]
        lines.append(f"| {' | '.join(cells)} | {'yes' if kept else '**no**'} |")
    return "\n".join(lines)


def measured(budget: Budget, results: Path) -> float:
    """Return what a budget is put on; exactly one row of its file must fit."""
    with (results / f"{budget.file}.csv").open(newline="") as file:
        (row,) = (
            row
            for row in csv.DictReader(file)
            if all(row[name] == value for name, value in budget.row.items())
        )
    return float(row[budget.column])
