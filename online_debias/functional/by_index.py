"""Values of rows that are of the same sample, made one."""

from __future__ import annotations

import torch
from torch import Tensor


def mean_by_index(index: Tensor, value: Tensor) -> Tensor:
    """Give rows of the same sample their common mean, so that writing them back has one outcome.

    Example:
        >>> mean_by_index(torch.tensor([4, 7, 4]), torch.tensor([1.0, 5.0, 3.0]))
        tensor([2., 5., 2.])
    """
    same = index[:, None] == index  # [B, B]
    return torch.where(same, value, 0).sum(1) / same.sum(1)


def last_by_index(index: Tensor, value: Tensor) -> Tensor:
    """Give rows of the same sample the value of the last of them.

    Example:
        >>> last_by_index(torch.tensor([4, 7, 4]), torch.tensor([1, 5, 3]))
        tensor([3, 5, 3])
    """
    same = index[:, None] == index  # [B, B]
    row = torch.arange(len(index), device=index.device)
    return value[torch.where(same, row, 0).amax(1)]
