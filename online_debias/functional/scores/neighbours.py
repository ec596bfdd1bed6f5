"""Nearest known images by pixel distance, and what share of images is nearer than it should be."""

from __future__ import annotations

import torch
from torch import Tensor

CANDIDATES = 4  # measured directly; the estimate that finds them is rounded where it is near zero


@torch.no_grad()
def nearest(queries: Tensor, known: Tensor, chunk: int = 256) -> tuple[Tensor, Tensor]:
    """Find the nearest known image of each query.

    Distances are root mean square differences per value; uint8 images are brought to [0, 1]
    first. Of equally near images any one may be named. Matrix products over chunks find
    candidates, which are then measured directly, so that an exact copy has distance 0.

    Args:
        queries: `[Q, ...]`, uint8 or float.
        known: `[N, ...]`, of the same kind, N at least 1.
        chunk: images of either kind in memory at once, as float32.

    Returns:
        `[Q]` distances and `[Q]` indices into `known`.

    Raises:
        ValueError: the images differ in shape, there is none to compare with, or `chunk` < 1.

    Example:
        >>> known = torch.tensor([[0.0, 0.0], [1.0, 0.5]])
        >>> nearest(torch.tensor([[1.0, 0.5], [0.3, 0.3]]), known)
        (tensor([0.0000, 0.3000]), tensor([1, 0]))
    """
    if queries.shape[1:] != known.shape[1:]:
        raise ValueError(
            f"queries are {list(queries.shape[1:])} and known images {list(known.shape[1:])}: "
            "give both the same size."
        )
    if not len(known):
        raise ValueError("known has no images, expected at least one to compare with.")
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}, expected at least 1 image.")
    found = [_nearest(_flat(part), known, chunk) for part in queries.split(chunk) if len(part)]
    if not found:
        return torch.zeros(0, device=known.device), known.new_zeros(0, dtype=torch.int64)
    distances, indices = zip(*found, strict=True)
    return torch.cat(distances), torch.cat(indices)


def memorised_share(distances: Tensor, held_out: Tensor, percentile: float = 1.0) -> float:
    """Return the share of distances below a percentile of those of held-out images.

    A model that draws new images comes as near to its training set as new images of the data do,
    so about percentile / 100 of what it draws is below.

    Args:
        distances: `[Q]`, of generated images to their nearest training images.
        held_out: `[H]`, the same of images that were not trained on.
        percentile: of `held_out`, from 0 to 100.

    Raises:
        ValueError: a set of distances is empty, or `percentile` is out of range.

    Example:
        >>> memorised_share(torch.tensor([0.0, 0.1, 0.3, 0.4]), torch.tensor([0.2, 0.3]), 0)
        0.5
    """
    if not len(distances) or not len(held_out):
        raise ValueError("A set of distances is empty, expected at least one image in both.")
    if not 0 <= percentile <= 100:
        raise ValueError(f"percentile is {percentile}, expected 0 to 100.")
    # torch.quantile refuses long inputs; the order of one side is all that is needed.
    ordered = held_out.double().sort().values
    place = percentile / 100 * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    limit = ordered[low].lerp(ordered[high], place - low)
    return float((distances.double() < limit).double().mean())


def _nearest(queries: Tensor, known: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    best = queries.new_zeros(len(queries), 0)
    index = torch.zeros_like(best, dtype=torch.int64)
    start = 0
    for part in map(_flat, known.split(chunk)):
        # Less the query's own square, which is the same for all.
        estimate = torch.addmm(part.square().sum(1), queries, part.T, alpha=-2)
        here = torch.arange(start, start + len(part), device=part.device)
        best = torch.cat([best, estimate], 1)
        index = torch.cat([index, here.expand(len(queries), -1)], 1)
        best, where = best.topk(min(CANDIDATES, best.shape[1]), largest=False)
        index = index.gather(1, where)
        start += len(part)
    exact = [(queries - _flat(known[rows])).square().mean(1).sqrt() for rows in index.T]
    distance, column = torch.stack(exact, 1).min(1)
    return distance, index.gather(1, column[:, None]).squeeze(1)


def _flat(images: Tensor) -> Tensor:
    scale = 255 if images.dtype == torch.uint8 else 1
    return images.flatten(1).float() / scale
