"""Several pictures as one, side by side in rows."""

from __future__ import annotations

import torch
from torch import Tensor


def grid(images: Tensor, columns: int = 8, gap: int = 2) -> Tensor:
    """Lay images out row by row on white; small ones are enlarged, two- or threefold.

    Args:
        images: `[K, C, H, W]` uint8.
        columns: images a row.
        gap: pixels between images.

    Returns:
        `[C, H', W']` uint8.

    Example:
        >>> grid(torch.zeros(3, 1, 28, 28, dtype=torch.uint8), columns=2).shape
        torch.Size([1, 170, 170])
    """
    scale = min(3, max(1, 96 // images.shape[-2]))
    images = images.repeat_interleave(scale, -2).repeat_interleave(scale, -1)
    images = torch.nn.functional.pad(images, (0, gap, 0, gap), value=255)
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    cells = images.new_full((rows * columns, channels, height, width), 255)
    cells[:count] = images
    cells = cells.view(rows, columns, channels, height, width).permute(2, 0, 3, 1, 4)
    return cells.reshape(channels, rows * height, columns * width)[:, :-gap, :-gap]
