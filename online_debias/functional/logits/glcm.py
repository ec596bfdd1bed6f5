"""Gray-level co-occurrence: which gray levels lie side by side, a summary of texture alone."""

from __future__ import annotations

import torch
from torch import Tensor

OFFSETS = ((0, 1), (1, 0), (1, 1), (1, -1))  # rows down, columns right


def co_occurrence(images: Tensor, levels: int) -> Tensor:
    """Return `[B, 4, levels, levels]`: how often two levels are neighbours, in four directions.

    An image's gray, the mean of its channels, is cut into levels of equal width. Each matrix is
    symmetric, for neighbours in either order, and sums to 1. No gradient goes into the images.

    Args:
        images: `[B, channels, H, W]` in [-1/2, 1/2], at least 2 pixels high and wide.
        levels: number of gray levels.

    Example:
        >>> stripes = torch.tensor([[[[-0.5, 0.5], [-0.5, 0.5]]]])
        >>> co_occurrence(stripes, levels=2)[0, :2]  # to the right, and down
        tensor([[[0.0000, 0.5000],
                 [0.5000, 0.0000]],
        <BLANKLINE>
                [[0.5000, 0.0000],
                 [0.0000, 0.5000]]])
    """
    gray = images.detach().float().mean(1)  # [B, H, W]
    level = ((gray + 0.5) * levels).long().clamp(0, levels - 1)
    height, width = gray.shape[1:]
    counts = []
    for down, right in OFFSETS:
        left = max(0, -right)
        first = level[:, : height - down, left : width - max(0, right)]
        second = level[:, down:, left + right : width + min(0, right)]
        pair = (first * levels + second).flatten(1)  # [B, pairs of pixels]
        count = gray.new_zeros(len(gray), levels**2)
        # Whole numbers: whatever the order of the additions, the sum is the same.
        count.scatter_add_(1, pair, torch.ones_like(pair, dtype=count.dtype))
        square = count.view(-1, levels, levels)
        counts.append((square + square.mT) / (2 * pair.shape[1]))
    return torch.stack(counts, 1)
