"""How often to draw each sample, so that conflicting ones get a chosen share of their class."""

from __future__ import annotations

import torch
from torch import Tensor


def draw_share(
    score: Tensor, targets: Tensor, n_classes: int, share: float, sharpness: float
) -> Tensor:
    """Turn conflict scores into sampling factors `[N]` with mean 1 in every class.

    A sample is conflicting to the degree s = sigmoid(sharpness * (score - 1/2)). In each class
    the degrees s are given `share` of the draws and the rest, 1 - s, what is left. Without
    conflicting samples all degrees are alike and the class is drawn evenly.

    Args:
        score: `[N]` in [0, 1], NaN for samples that were never seen: those get the factor 1.
        targets: `[N]` int64; any class for samples never seen.
        n_classes: number of classes.
        share: share of a class's draws for its conflicting samples, in (0, 1).
        sharpness: slope of the sigmoid; the rarer conflicting samples are, the steeper it must
            be, since the small degrees of many aligned samples add up.

    Example:
        >>> score = torch.tensor([1.0, 0.0, 0.0, 0.0])
        >>> draw_share(score, torch.zeros(4, dtype=torch.long), 1, share=0.5, sharpness=100.0)
        tensor([2.0000, 0.6667, 0.6667, 0.6667])
    """
    seen = ~score.isnan()
    # Bounded, so that a class whose samples are all alike still has degrees to share by.
    degree = torch.sigmoid(sharpness * (score.nan_to_num() - 0.5)).clamp(1e-6, 1 - 1e-6)
    factor = torch.zeros_like(score)
    size = torch.zeros(n_classes, dtype=score.dtype, device=score.device)
    size.index_add_(0, targets, seen.to(score.dtype))
    for part, portion in ((degree * seen, share), ((1 - degree) * seen, 1 - share)):
        mass = torch.zeros_like(size).index_add_(0, targets, part)
        factor += portion * part * (size / mass.clamp_min(torch.finfo(mass.dtype).tiny))[targets]
    return torch.where(seen, factor, 1.0)
