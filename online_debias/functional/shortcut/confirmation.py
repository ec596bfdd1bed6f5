"""Whether other views tell the class where one contradicts it: then it sees another thing."""

from __future__ import annotations

import torch
from torch import Tensor


def confirmation(
    confirmed: Tensor, contradicted: Tensor, told: Tensor, n_classes: int, least: float = 0.1
) -> Tensor:
    """Return how much of what another view tells of the class is left where one is wrong, `[V]`.

    1 if the errors of a view say nothing of those of the others, as when it shows another thing;
    0 if there the others do no better than chance. Of the best of the others, which has to tell
    something of the class to count. Sampling noise can bring it above 1.

    Args:
        confirmed: `[V, V]`, rows in which the first view contradicts the label and the second tells
            it.
        contradicted: `[V]`, rows in which a view contradicts the label.
        told: `[V]`, share of all rows in which a view tells the label.
        n_classes: number of classes, for what chance gives.
        least: how much better than chance a view must tell the class to confirm others.

    Example:
        >>> confirmed = torch.tensor([[0.0, 8.0], [5.0, 0.0]])  # of ten rows each
        >>> told = torch.tensor([0.9, 0.8])
        >>> confirmation(confirmed, torch.tensor([10.0, 10.0]), told, n_classes=10)
        tensor([1.0000, 0.5000])
    """
    chance = 1 / max(2, n_classes)
    everywhere = (told - chance) / (1 - chance)
    there = (confirmed / contradicted.clamp_min(1e-12)[:, None] - chance) / (1 - chance)
    left = torch.where(everywhere >= least, there / everywhere.clamp_min(1e-12), 0.0)
    return left.clamp_min(0).amax(1)
