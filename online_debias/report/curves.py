"""Curves of one or two runs: a small panel a quantity, and where its lines are drawn."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from online_debias.runtime import metrics_csv

Curve = list[tuple[int, float]]  # (step, value)
Curves = Mapping[tuple[str, str], Curve]  # of (split, name)

WIDTH, HEIGHT = 138, 98  # of the axes, as in page.html
LABEL = 13  # height of a number beside a curve
SMALL = ("detect/share_flagged", "noise/share")  # a whole axis would show nothing of these
POINTS = 200  # drawn of a curve
GROUPS = {
    "Accuracy on the test images": {
        ("test", "accuracy"): "all",
        ("test", "accuracy_unbiased"): "unbiased: mean over groups",
        ("test", "accuracy_worst_group"): "worst group",
        ("test", "accuracy_aligned"): "bias-aligned",
        ("test", "accuracy_conflicting"): "bias-conflicting",
    },
    "Accuracy where the biased view agrees, and where not": {
        ("validation", "accuracy_pseudo_unbiased"): "validation: unbiased, as far as seen",
        ("validation", "accuracy_pseudo_aligned"): "validation: looks bias-aligned",
        ("validation", "accuracy_pseudo_conflicting"): "validation: looks bias-conflicting",
        ("train", "train/accuracy_pseudo_aligned"): "training: looks bias-aligned",
        ("train", "train/accuracy_pseudo_conflicting"): "training: looks bias-conflicting",
    },
    "Finding conflicting training images": {
        ("train", "shortcut/evidence"): "evidence of a shortcut",
        ("train", "shortcut/followed"): "what contradicts it, but the model sides with it",
        ("train", "shortcut/texture"): "evidence that the texture of the images is one",
        ("train", "shortcut/part"): "evidence that a part of the images is one",
        ("train", "detect/share_flagged"): "share with a score above ½",
        ("train", "noise/share"): "share suspected of a wrong label",
        ("train", "detect/auroc"): "AUROC, by bias labels",
        ("train", "detect/average_precision"): "average precision, by bias labels",
    },
    "Weights": {
        ("train", "weights/ess"): "effective sample size, share of the batch",
        ("train", "weights/share_conflicting"): "loss weight on conflicting rows, by bias labels",
    },
}


class Line(NamedTuple):
    """A run's curve in a panel.

    Attributes:
        run: "run" or "against".
        points: places along it; y grows downwards.
        value: the last one.
        label_y: where that is written.
    """

    run: str
    points: list[tuple[float, float]]
    value: float
    label_y: float


class Panel(NamedTuple):
    """A quantity; its axes go from 0 to `ceiling` and to step `end`."""

    title: str
    ceiling: float
    end: int
    lines: list[Line]


def read(path: Path) -> Curves:
    """Return every curve in a metrics.csv; values that are not finite are left out.

    Raises:
        ConfigError: it is missing or damaged.
    """
    found: dict[tuple[str, str], Curve] = defaultdict(list)
    for row in metrics_csv.read(path):
        if math.isfinite(row.value):
            found[row.split, row.name].append((row.step, row.value))
    return found


def panels(runs: Sequence[Curves]) -> dict[str, list[Panel]]:
    """Return the panels of each group of quantities that any of the runs has.

    Args:
        runs: one or two, the second one drawn dashed.
    """
    end = max((curve[-1][0] for run in runs for curve in run.values()), default=1)
    found: dict[str, list[Panel]] = {}
    for group, names in GROUPS.items():
        for key, title in names.items():
            curves = [run.get(key, []) for run in runs]
            if any(curves):
                found.setdefault(group, []).append(panel(title, curves, end, key[1] in SMALL))
    return found


def panel(title: str, curves: Sequence[Curve], end: int, enlarge: bool = False) -> Panel:
    """Return a panel with a line for each curve that is not empty.

    Args:
        title: what is drawn, in words.
        curves: of each run, shares of 1.
        end: the last step of the axis.
        enlarge: end the axis not far above the highest value, not at 1.
    """
    highest = max(value for curve in curves for _, value in curve)
    tops = (0.05, 0.1, 0.2, 0.5) if enlarge else ()
    ceiling = next((top for top in tops if highest <= 0.9 * top), 1.0)
    across, up = WIDTH / max(end, 1), HEIGHT / ceiling
    lines = []
    for run, curve in zip(("run", "against"), curves, strict=False):
        if curve:
            points = [
                (round(across * step, 1), round(HEIGHT - up * min(max(value, 0), ceiling), 1))
                for step, value in _thinned(curve)
            ]
            lines.append(Line(run, points, curve[-1][1], points[-1][1]))
    return Panel(title, ceiling, end, _apart(lines))


def _thinned(curve: Curve) -> Curve:
    stride = -(-len(curve) // POINTS)
    return curve if stride == 1 else [*curve[:-1:stride], curve[-1]]


def _apart(lines: list[Line]) -> list[Line]:
    """Move two labels apart that would hide each other."""
    if len(lines) < 2 or abs(lines[0].label_y - lines[1].label_y) >= LABEL:
        return lines
    first, second = lines
    half = math.copysign(LABEL / 2, second.label_y - first.label_y)
    middle = min(max((first.label_y + second.label_y) / 2, LABEL / 2), HEIGHT - LABEL / 2)
    return [first._replace(label_y=middle - half), second._replace(label_y=middle + half)]
