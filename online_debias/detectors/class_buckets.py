"""Many classes share the masses of a few buckets, so that memory stays bounded."""

from __future__ import annotations

import torch
from torch import Tensor

FEW_BUCKETS = 64  # for detectors of so many trees that even a thousand would be too many


def bucket_of(targets: Tensor, n_buckets: int, n_classes: int) -> Tensor:
    """Return the bucket of each class, `[B]` int64; each class is its own if there are enough.

    Neighbouring numbers often stand for similar classes, so these go into different buckets.

    Args:
        targets: classes `[B]` int64.
        n_buckets: number of buckets.
        n_classes: number of classes.

    Example:
        >>> bucket_of(torch.tensor([0, 1, 4, 5]), n_buckets=4, n_classes=6)
        tensor([0, 1, 0, 1])
    """
    return targets if n_buckets >= n_classes else targets % n_buckets


def of_classes(posterior: Tensor, n_classes: int) -> Tensor:
    """Give each class the posterior of its bucket: `[..., C]` from `[..., G]`.

    Of classes of one bucket the first has its name: `argmax` is a bucket.

    Example:
        >>> of_classes(torch.tensor([[0.75, 0.25]]), n_classes=3)
        tensor([[0.7500, 0.2500, 0.7500]])
    """
    n_buckets = posterior.shape[-1]
    if n_buckets >= n_classes:
        return posterior
    return posterior[..., torch.arange(n_classes, device=posterior.device) % n_buckets]
