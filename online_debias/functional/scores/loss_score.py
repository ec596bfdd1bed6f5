"""The loss of a row as a score of how likely the row is bias-conflicting."""

from __future__ import annotations

from torch import Tensor


def loss_score(loss: Tensor) -> Tensor:
    """Return 1 - exp(-loss), in [0, 1]: 1 - p_y where the loss is the row's cross-entropy.

    Args:
        loss: any shape, >= 0.

    Example:
        >>> import torch
        >>> loss_score(torch.tensor([0.0, 0.6931, float("inf")]))
        tensor([0.0000, 0.5000, 1.0000])
    """
    return -(-loss).expm1()
