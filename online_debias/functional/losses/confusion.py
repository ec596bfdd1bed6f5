"""How far a prediction is from knowing nothing."""

from __future__ import annotations

from torch import Tensor


def uniform_cross_entropy(logits: Tensor) -> Tensor:
    """Return - 1/K sum_k log p_k of each row, `[B]`: at least log K, which says nothing.

    Args:
        logits: `[B, K]`.

    Example:
        >>> import torch
        >>> uniform_cross_entropy(torch.zeros(1, 2))
        tensor([0.6931])
    """
    return -logits.log_softmax(1).mean(1)
