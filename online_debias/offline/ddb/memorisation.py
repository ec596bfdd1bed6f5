"""Whether synthetic images are copies of training images."""

from __future__ import annotations

import torch
from torch import Tensor

from online_debias.functional.scores.neighbours import memorised_share, nearest
from online_debias.training.image_grid import grid

PAIRS, COLUMNS = 24, 8  # shown with their nearest training images; in a row


def memorisation(
    synthetic: Tensor,
    train: Tensor,
    held_out: Tensor | None = None,
    limit: int = 2000,
) -> tuple[dict[str, float], tuple[Tensor, Tensor]]:
    """Measure whether synthetic images are copies of training images.

    Distances are root mean square differences of pixels in [0, 1] to the nearest training image.
    `neighbour_distance` is their median; with held-out images there are also
    `neighbour_distance_held_out`, the same of those, and `memorised_share`: the share of synthetic
    images nearer than one in a hundred held-out images is, about 0.01 if they are new.

    Args:
        synthetic: `[N, C, H, W]` uint8.
        train: the images that the model was trained on, on the same device.
        held_out: likewise, images that it was not trained on.
        limit: synthetic, and held-out, images that are measured, evenly spaced.

    Returns:
        The figures, and indices of synthetic images, nearest to training images first, with those
        of the training images.

    Example:
        >>> images = torch.arange(32, dtype=torch.uint8).view(2, 1, 4, 4)
        >>> memorisation(images, images)[0]
        {'neighbour_distance': 0.0}
    """
    chosen = _evenly(len(synthetic), limit, synthetic.device)
    distance, index = nearest(synthetic[chosen], train)
    figures = {"neighbour_distance": float(distance.median())}
    if held_out is not None:
        of_held_out, _ = nearest(held_out[_evenly(len(held_out), limit, held_out.device)], train)
        figures["neighbour_distance_held_out"] = float(of_held_out.median())
        figures["memorised_share"] = memorised_share(distance, of_held_out)
    order = distance.argsort(stable=True)
    return figures, (chosen[order], index[order])


def pairs(images: Tensor, known: Tensor, near: Tensor, of: Tensor) -> Tensor:
    """Return a picture `[C, H, W]` uint8 of synthetic images, each above the one it is near.

    There are up to eight pairs a row; a last row that is not full is left out.

    Args:
        images: the synthetic ones, `[N, C, H, W]` uint8, on the CPU.
        known: the training images.
        near: indices of synthetic images, nearest first, from `memorisation`.
        of: those of their training images.

    Example:
        >>> images, index = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.arange(2)
        >>> pairs(images, images, index, index).dtype
        torch.uint8
    """
    above, below = images[near[:PAIRS].cpu()], known[of[:PAIRS]].cpu()
    columns = min(COLUMNS, len(above))
    rows = zip(above.split(columns), below.split(columns), strict=True)
    whole = [row for pair in rows if len(pair[0]) == columns for row in pair]
    return grid(torch.cat(whole), columns)


def _evenly(count: int, limit: int, device: torch.device) -> Tensor:
    kept = min(count, limit)
    return torch.arange(kept, device=device) * count // kept
