"""Accuracy group by group: of true groups where they are annotated, else of pseudo-groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from online_debias.report.curves import Curves
from online_debias.report.naming import seen_as
from online_debias.runtime.scores_csv import Details, Scores

WIDE = 12  # classes or bias values that still make a table of cells
WORST = 20  # groups listed of more
ROWS = {
    ("test", "accuracy"): "test images",
    ("test", "accuracy_unbiased"): "test images, mean over groups",
    ("test", "accuracy_worst_group"): "test images, worst group",
    ("test", "accuracy_aligned"): "bias-aligned test images",
    ("test", "accuracy_conflicting"): "bias-conflicting test images",
    ("validation", "accuracy"): "validation images",
    ("validation", "accuracy_pseudo_unbiased"): "validation images, mean over pseudo-groups",
    ("validation", "accuracy_pseudo_aligned"): "validation images that look bias-aligned",
    ("validation", "accuracy_pseudo_conflicting"): "validation images that look bias-conflicting",
}


class Row(NamedTuple):
    """A line of a table: its name, and a cell a column; None is an empty one."""

    name: str
    cells: Sequence[float | None]


class Groups(NamedTuple):
    """Accuracies of the test groups after the last epoch.

    Attributes:
        columns: names of the bias values; none where the groups are a list.
        rows: a class each, or one of the worst groups each.
        total: number of groups.
    """

    columns: Sequence[str]
    rows: Sequence[Row]
    total: int


class PseudoGroups(NamedTuple):
    """A class's training images by what the biased view sees.

    Attributes:
        name: of the class.
        samples: in training.
        conflicting: with a score above 1/2.
        share: of those among the scored ones; None where none is.
        losses: mean loss of those that look bias-aligned, and of those that look conflicting.
    """

    name: str
    samples: int
    conflicting: int
    share: float | None
    losses: tuple[float | None, float | None]


def accuracies(runs: Sequence[Curves]) -> list[Row]:
    """Return the last accuracies that any of the runs has, a column a run."""
    rows = []
    for key, name in ROWS.items():
        cells = [run[key][-1][1] if run.get(key) else None for run in runs]
        if any(cell is not None for cell in cells):
            rows.append(Row(name, cells))
    return rows


def true_groups(curves: Curves, classes: tuple[str, ...]) -> Groups | None:
    """Return the accuracies of the annotated test groups, None without annotations."""
    found: dict[tuple[int, int], float] = {}
    for (split, name), curve in curves.items():
        if split == "test" and name.startswith("group/"):
            target, value = map(int, name.removeprefix("group/").split("_"))
            found[target, value] = curve[-1][1]
    if not found:
        return None
    values = sorted({value for _, value in found})
    if len(classes) <= WIDE and len(values) <= WIDE:
        rows = [
            Row(name, [found.get((target, value)) for value in values])
            for target, name in enumerate(classes)
        ]
        return Groups([seen_as(value, classes) for value in values], rows, len(found))
    worst = sorted(found, key=lambda group: found[group])[:WORST]
    listed = [Row(_group(group, classes), [found[group]]) for group in worst]
    return Groups((), listed, len(found))


def pseudo_groups(scores: Scores, details: Details, classes: tuple[str, ...]) -> list[PseudoGroups]:
    """Return what the scores say of each class."""
    loss = torch.full_like(scores.score, torch.nan) if details.loss is None else details.loss
    rows = []
    for label, name in enumerate(classes):
        own = scores.targets == label
        score = scores.score[own]
        flagged, seen = score > 0.5, int((~score.isnan()).sum())
        rows.append(
            PseudoGroups(
                name,
                len(score),
                int(flagged.sum()),
                int(flagged.sum()) / seen if seen else None,
                (_mean(loss[own][score <= 0.5]), _mean(loss[own][flagged])),
            )
        )
    return rows


def costs(runs: Sequence[Mapping[str, object]]) -> list[Row]:
    """Return what the runs cost, a column a run."""
    names = {
        "seconds_training": "seconds of training",
        "seconds_total": "seconds in all",
        "training_passes": "trainings",
        "samples": "images trained on",
        "extra_parameters": "parameters beside the model's",
        "peak_memory_mb": "peak memory, MB",
    }
    rows = []
    for key, name in names.items():
        cells = [run.get(key) for run in runs]
        numbers = [cell if isinstance(cell, int | float) else None for cell in cells]
        if any(number is not None for number in numbers):
            rows.append(Row(name, numbers))
    return rows


def _group(group: tuple[int, int], classes: tuple[str, ...]) -> str:
    target, value = group
    return f"{seen_as(target, classes)}, looks like {seen_as(value, classes)}"


def _mean(values: Tensor) -> float | None:
    known = values[~values.isnan()]
    return float(known.mean()) if len(known) else None
