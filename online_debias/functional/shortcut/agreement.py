"""How well a biased view tells the class: what says whether there is a shortcut."""

from __future__ import annotations

from torch import Tensor


def agreement(right: Tensor, seen: Tensor) -> Tensor:
    """Return how much better than by chance a view tells the class, `[...]`, in [0, 1].

    The share of rows told right, mean over classes, so that a frequent class does not answer for
    all; 0 is what guessing gives, 1 no mistake (Cohen's kappa, with classes equally common).
    Classes without rows are left out.

    Args:
        right: `[..., C]`, mass of the rows of each class that the view told right.
        seen: `[..., C]`, mass of all its rows.

    Example:
        >>> import torch
        >>> agreement(torch.tensor([9.0, 6.0]), torch.tensor([10.0, 10.0]))
        tensor(0.5000)
    """
    present = seen > 0
    n_classes = present.sum(-1).clamp_min(1)
    recall = (right / seen.clamp_min(1e-12) * present).sum(-1) / n_classes
    chance = 1 / n_classes.clamp_min(2)
    return ((recall - chance) / (1 - chance)).clamp(0, 1)
