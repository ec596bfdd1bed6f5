"""Many classes share the masses of a few groups, so that memory stays bounded."""

from __future__ import annotations

import torch
from torch import Tensor

FEW_GROUPS = 64  # for detectors of so many trees that even a thousand would be too many


def group_of(targets: Tensor, n_groups: int, n_classes: int) -> Tensor:
    """Return the group of each class, `[B]` int64; each class is its own if there are enough.

    Neighbouring numbers often stand for similar classes, so these go into different groups.

    Args:
        targets: classes `[B]` int64.
        n_groups: number of groups.
        n_classes: number of classes.

    Example:
        >>> group_of(torch.tensor([0, 1, 4, 5]), n_groups=4, n_classes=6)
        tensor([0, 1, 0, 1])
    """
    return targets if n_groups >= n_classes else targets % n_groups


def of_classes(posterior: Tensor, n_classes: int) -> Tensor:
    """Give each class the posterior of its group: `[..., C]` from `[..., G]`.

    Of classes of one group the first has its name: `argmax` is a group.

    Example:
        >>> of_classes(torch.tensor([[0.75, 0.25]]), n_classes=3)
        tensor([[0.7500, 0.2500, 0.7500]])
    """
    n_groups = posterior.shape[-1]
    if n_groups >= n_classes:
        return posterior
    return posterior[..., torch.arange(n_classes, device=posterior.device) % n_groups]
