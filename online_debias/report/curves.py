"""Curves of one or two runs, a small panel a quantity, as SVG that follows the page's colours."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from online_debias.errors import ConfigError

Curve = list[tuple[int, float]]  # (step, value)
Curves = Mapping[tuple[str, str], Curve]  # of (split, name)

WIDTH, HEIGHT = 210, 132
LEFT, RIGHT, TOP, BOTTOM = 28, 166, 8, 106  # of the axes
ENLARGED = (
    "detect/share_flagged",
    "noise/share",
)  # small numbers, of which the whole axis shows nothing
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


class Panel(NamedTuple):
    """A quantity, and its drawing."""

    title: str
    svg: str


def read(path: Path) -> Curves:
    """Return every curve in a metrics.csv; values that are not finite are left out.

    Raises:
        ConfigError: it is missing or damaged.
    """
    found: dict[tuple[str, str], Curve] = defaultdict(list)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                value = float(row["value"])
                if math.isfinite(value):
                    found[row["split"], row["name"]].append((int(row["step"]), value))
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise ConfigError(
            f"{path} cannot be read, expected the columns step,epoch,split,name,value "
            f"({error!r}); train the run again to have it written."
        ) from error
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
                found.setdefault(group, []).append(
                    Panel(title, draw(title, curves, end, key[1] in ENLARGED))
                )
    return found


def draw(title: str, curves: Sequence[Curve], end: int, enlarge: bool = False) -> str:
    """Return a panel as SVG, with its last values beside the curves and in its label.

    Args:
        title: what is drawn, in words.
        curves: of each run, shares of 1; an empty one is left out.
        end: the last step of the axis.
        enlarge: end the axis not far above the highest value, not at 1.
    """
    highest = max(value for curve in curves for _, value in curve)
    tops = (0.05, 0.1, 0.2, 0.5) if enlarge else ()
    ceiling = next((top for top in tops if highest <= 0.9 * top), 1.0)

    def across(step: float) -> float:
        return LEFT + (RIGHT - LEFT) * step / max(end, 1)

    def up(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * min(max(value / ceiling, 0), 1)

    parts = []
    for tick in (0, ceiling / 2, ceiling):
        y = up(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" class="end">{100 * tick:g}</text>')
    parts.append(f'<text x="{LEFT}" y="{BOTTOM + 18}">0</text>')
    parts.append(f'<text x="{RIGHT}" y="{BOTTOM + 18}" class="end">{end:,} steps</text>')
    last = {name: curve for name, curve in zip(("run", "against"), curves, strict=False) if curve}
    places = _apart({name: up(curve[-1][1]) for name, curve in last.items()})
    for name, curve in reversed(last.items()):  # the run itself on top
        points = _thinned(curve)
        line = " ".join(f"{across(step):.1f},{up(value):.1f}" for step, value in points)
        end_x, end_y = line.rpartition(" ")[2].split(",")
        parts.append(f'<polyline class="{name}" points="{line}"/>')
        parts.append(f'<circle class="{name}" cx="{end_x}" cy="{end_y}" r="2.5"/>')
        beside = f'class="{name}" x="{RIGHT + 7}" y="{places[name] + 4:.1f}"'
        parts.append(f"<text {beside}>{100 * curve[-1][1]:.1f}</text>")
    said = ", ".join(
        f"{'the other run' if name == 'against' else 'this run'} {100 * curve[-1][1]:.1f} %"
        for name, curve in last.items()
    )
    label = escape(f"{title}: in the end {said}")
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )


def _thinned(curve: Curve) -> Curve:
    stride = -(-len(curve) // POINTS)
    return curve if stride == 1 else [*curve[:-1:stride], curve[-1]]


def _apart(places: dict[str, float], least: float = 13) -> dict[str, float]:
    """Move two labels apart that would hide each other."""
    if len(places) < 2:
        return places
    (upper, y_upper), (lower, y_lower) = sorted(places.items(), key=lambda item: item[1])
    missing = max(0.0, least - (y_lower - y_upper)) / 2
    y_upper = min(max(y_upper - missing, TOP), BOTTOM - least)
    return {upper: y_upper, lower: max(y_lower + missing if missing else y_lower, y_upper + least)}
