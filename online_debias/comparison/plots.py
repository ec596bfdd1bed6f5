"""Pictures of a comparison on one data set: accuracy, detection and what they cost."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from online_debias.comparison import figures
from online_debias.comparison.summary import Section, Value
from online_debias.runs.results import row_name
from online_debias.runtime import metrics_csv

if TYPE_CHECKING:  # slow to import
    from matplotlib.axes import Axes

DIRECT = 6  # at most so many methods have their names beside their points
ACCURACY = "accuracy_unbiased"
COST = {"training_passes": "trainings", "seconds_training": "training time (s)"}
GROUPS = {
    "accuracy_aligned": "bias-aligned images",
    "accuracy_conflicting": "bias-conflicting images",
    ACCURACY: "unbiased (mean over groups)",
    "accuracy_worst_group": "worst group",
}
DETECTION = {"detect/auroc": "AUROC", "detect/average_precision": "average precision"}


def accuracy_against_cost(section: Section, path: Path) -> bool:
    """Draw unbiased accuracy against trainings and against time: the upper left is best.

    Points are means over seeds, bars standard deviations; a method that reads bias labels is
    hollow. Methods with the same number of trainings stand side by side.

    Args:
        section: one data set and one ratio.
        path: the PNG file to write.

    Returns:
        False if there is nothing to show; then no file is written.
    """
    lines = {row_name(line.method, line.oracle): line for line in section.lines}
    looks = figures.style(lines)
    figure, panels = figures.figure(1, 2, 3.5)
    points = [
        {
            name: figures.point(line.values[metric].mean, line.values[ACCURACY], 100)
            for name, line in lines.items()
            if {metric, ACCURACY} <= line.values.keys()
        }
        for metric in COST
    ]
    if not any(points):
        return False
    figures.whole_axis(panels[0], [point.x for point in points[0].values()])
    figures.time_axis(panels[1], [point.x for point in points[1].values()])
    points[0] = _side_by_side(points[0])
    for axes, placed, label in zip(panels, points, COST.values(), strict=True):
        for name, point in placed.items():
            figures.draw(axes, [point], looks[name], name, lines[name].oracle)
        axes.set_xlabel(label)
    panels[0].set_ylabel("unbiased test accuracy (%)")
    figures.percent_axis(panels[0], [point for placed in points for point in placed.values()])
    named = len(lines) <= DIRECT and all(
        figures.name_points(figure, *panel) for panel in zip(panels, points, strict=True)
    )
    if not named:
        figures.legend(figure, panels)
    figures.write(figure, path)
    return True


def accuracy_against_ratio(sections: Sequence[Section], path: Path) -> bool:
    """Draw unbiased accuracy against the share of bias-aligned images, a line a method.

    Args:
        sections: of one data set; those without a ratio are left out.
        path: the PNG file to write.

    Returns:
        False if there is nothing to show; then no file is written.
    """
    ratios = {section.ratio: section.lines for section in sections if section.ratio is not None}
    looks = figures.style(line.method for lines in ratios.values() for line in lines)
    figure, panels = figures.figure(1, 1, 3.8)
    drawn = []
    for i, method in enumerate(looks):
        aside = 0.04 * (i - (len(looks) - 1) / 2)  # so that no bar hides another
        found = [
            (place + aside, line)
            for place, ratio in enumerate(sorted(ratios))
            for line in ratios[ratio]
            if line.method == method and ACCURACY in line.values
        ]
        if found:
            points = [figures.point(x, line.values[ACCURACY], 100) for x, line in found]
            oracle = any(line.oracle for _, line in found)
            figures.draw(panels[0], points, looks[method], row_name(method, oracle), oracle)
            drawn += points
    if not drawn:
        return False
    panels[0].set_xticks(range(len(ratios)), [f"{100 * ratio:g} %" for ratio in sorted(ratios)])
    panels[0].set_xlim(-0.5, len(ratios) - 0.5)
    panels[0].set_xlabel("share of bias-aligned training images")
    panels[0].set_ylabel("unbiased test accuracy (%)")
    figures.percent_axis(panels[0], drawn)
    figures.legend(figure, panels)
    figures.write(figure, path)
    return True


def learning_curves(curves: Mapping[str, Sequence[Path]], path: Path) -> bool:
    """Draw the test accuracies of bias-aligned, -conflicting and all groups, epoch by epoch.

    Lines are means over seeds, bands standard deviations.

    Args:
        curves: method -> its metrics.csv of each seed.
        path: the PNG file to write.

    Returns:
        False if there is nothing to show; then no file is written.

    Raises:
        ConfigError: a metrics.csv is damaged.
    """
    figure, panels = figures.figure(2, 2, 5.0)
    shown = _draw_curves(panels, curves, "test", GROUPS, 100)
    for axes in (panels[0], panels[2]):
        axes.set_ylabel("test accuracy (%)")
    for axes in panels[2:]:
        axes.set_xlabel("epoch")
    panels[0].set_ylim(-3, 103)
    if shown:
        figures.legend(figure, panels)
        figures.write(figure, path)
    return shown


def detection_curves(curves: Mapping[str, Sequence[Path]], path: Path) -> bool:
    """Draw how well the scores find bias-conflicting training images, epoch by epoch.

    Args:
        curves: method -> its metrics.csv of each seed; methods without a score are left out.
        path: the PNG file to write.

    Returns:
        False if no method has a score; then no file is written.

    Raises:
        ConfigError: a metrics.csv is damaged.
    """
    figure, panels = figures.figure(1, 2, 3.0)
    shown = _draw_curves(panels, curves, "train", DETECTION, 1)
    for axes in panels:
        axes.set_xlabel("epoch")
    panels[0].set_ylabel("detection of conflicting images")
    panels[0].set_ylim(min(panels[0].get_ylim()[0], 0.9), 1.02)
    if shown:
        figures.legend(figure, panels)
        figures.write(figure, path)
    return shown


def _side_by_side(points: Mapping[str, figures.Point]) -> dict[str, figures.Point]:
    """Move points with the same x apart, around it."""
    moved, sizes, placed = {}, Counter(point.x for point in points.values()), Counter[float]()
    for method, point in points.items():
        share = (placed[point.x] + 0.5) / sizes[point.x]
        placed[point.x] += 1
        moved[method] = point._replace(x=point.x + 0.7 * (share - 0.5))
    return moved


def _draw_curves(
    panels: Sequence[Axes],
    curves: Mapping[str, Sequence[Path]],
    split: str,
    names: Mapping[str, str],
    scale: float,
) -> bool:
    looks = figures.style(curves)
    found = {method: _epochs(paths, split) for method, paths in curves.items()}
    for (name, title), axes in zip(names.items(), panels, strict=True):
        axes.set_title(title, fontsize=9)
        for method, of_method in found.items():
            points = [
                figures.point(x, Value.of(seeds), scale)
                for x, seeds in sorted(of_method[name].items())
            ]
            if points:
                figures.draw(axes, points, looks[method], method, band=True)
        epochs = {epoch for of_method in found.values() for epoch in of_method[name]}
        figures.whole_axis(axes, list(epochs))
    return any(of_method[name] for of_method, name in product(found.values(), names))


def _epochs(paths: Iterable[Path], split: str) -> Mapping[str, dict[int, list[float]]]:
    """Return name -> epoch, counted from 1 -> the value of each seed."""
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for path in paths:
        for row in metrics_csv.read(path):
            if row.split == split:
                # What training records is of the epoch that is not finished yet.
                found[row.name][row.epoch + (split == "train")].append(row.value)
    return found
