"""Judge a model by pseudo-groups: what the biased view sees in images that nobody annotated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from online_debias.engine import Engine

_PRIOR = 5.0  # images of its side's accuracy that are added to every cell


def pseudo_group_metrics(predictions: Tensor, targets: Tensor, view: Tensor) -> dict[str, float]:
    """Return accuracies, in [0, 1], over the images that look bias-aligned and those that do not.

    `accuracy_pseudo_aligned` and `accuracy_pseudo_conflicting` are means over the images of which
    the biased view sees the target, or something else. `accuracy_pseudo_unbiased` is the mean of
    both sides, where each counts its classes evenly: the mean over (target, agrees or not) cells.
    A biased validation split has a few conflicting images of each class, and a mean over cells
    of one or two is mostly noise, so every cell is drawn towards the accuracy of its side, as if
    five more images had that. A side without images is left out, and then the mean of both is too.

    Args:
        predictions: `[N]` int64 on the CPU.
        targets: `[N]` int64.
        view: `[N]` int64, the bias value seen in each image.

    Example:
        >>> y, view = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])
        >>> found = pseudo_group_metrics(torch.tensor([0, 1, 1, 1]), y, view)
        >>> found["accuracy_pseudo_aligned"], found["accuracy_pseudo_conflicting"]
        (1.0, 0.0)
        >>> found["accuracy_pseudo_unbiased"]
        0.5
    """
    right, agrees = (predictions == targets).double(), view == targets
    metrics: dict[str, float] = {}
    sides = []
    for name, rows in (("aligned", agrees), ("conflicting", ~agrees)):
        if not rows.any():
            continue
        mean = right[rows].mean()
        size = torch.bincount(targets[rows])
        hits = torch.bincount(targets[rows], weights=right[rows])
        cells = (hits + _PRIOR * mean) / (size + _PRIOR)
        sides.append(float(cells[size > 0].mean()))
        metrics[f"accuracy_pseudo_{name}"] = float(mean)
    if len(sides) == 2:
        metrics["accuracy_pseudo_unbiased"] = sum(sides) / 2
    return metrics


@contextmanager
def watched(engine: Engine, model: nn.Module) -> Iterator[list[Tensor]]:
    """In the block, note what the biased view sees in the rows of every forward pass of `model`.

    Its features are those of the same forward pass, read by the engine's taps; nothing is learned.

    Returns:
        A list to which every forward pass adds its rows' bias values, `[B]` int64 on the CPU; it
        stays empty where no callback can tell.
    """
    seen: list[Tensor] = []

    def before(module: nn.Module, args: Any) -> None:
        engine.read_features()

    def after(module: nn.Module, args: Any, output: Any) -> None:
        view = engine.predict_bias(engine.taps.finish(), args[0])
        if view is not None:
            seen.append(view.cpu())

    # A tap may read the model's own input; its hook must find the taps started.
    hooks = (
        model.register_forward_pre_hook(before, prepend=True),
        model.register_forward_hook(after),
    )
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
