"""Rank, world size and sums over ranks: the identity when alone."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Return this process's rank; 0 when alone."""
    return dist.get_rank() if _joined() else 0


def world_size() -> int:
    """Return the number of processes that train together; 1 when alone."""
    return dist.get_world_size() if _joined() else 1


def all_reduce(value: Tensor) -> Tensor:
    """Sum `value` over ranks, in place."""
    if _joined():
        dist.all_reduce(value)
    return value
