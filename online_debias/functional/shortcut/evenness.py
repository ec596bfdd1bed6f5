"""How evenly rows are taken for all other classes: hard images are not, conflicting ones are."""

from __future__ import annotations

from torch import Tensor


def evenness(counts: Tensor, others: int) -> Tensor:
    """Return the number of classes a class is taken for, as a share of all others, `[...]`.

    The effective number of classes is one over the chance that two rows of a class are taken for
    the same one (Simpson, "Measurement of Diversity", Nature 1949), estimated without bias from
    pairs of rows, so it can be a little above 1. Classes count with their rows; 0 where there are
    no two rows of one class.

    Args:
        counts: `[..., C, K]`, rows of each class by what they are taken for, not negative.
        others: how many classes there are to be taken for.

    Example:
        >>> import torch
        >>> evenness(torch.tensor([[0.0, 40, 0], [20, 0, 20], [20, 20, 0]]), others=2)
        tensor(0.7597)
    """
    rows = counts.sum(-1)
    alike = (counts * (counts - 1)).clamp_min(0).sum(-1)
    chance = alike / (rows * (rows - 1)).clamp_min(1)
    told = (rows * (rows > 1)).sum(-1)
    # Pairs that are never alike would make it endless: a pair of all is counted as alike.
    least = 1 / (told * (told - 1)).clamp_min(1)
    mean = (chance * rows).sum(-1) / told.clamp_min(1)
    return (told > 0) / mean.maximum(least) / others
