"""A penalty on the size of logits, which keeps one feature from starving the others."""

from __future__ import annotations

from torch import Tensor


def mean_squared_norm(logits: Tensor) -> Tensor:
    """Return the mean over rows of |logits|^2, squares summed over the classes; a scalar.

    Args:
        logits: `[B, C]`.

    Example:
        >>> import torch
        >>> mean_squared_norm(torch.tensor([[3.0, 4.0], [1.0, 0.0]]))
        tensor(13.)
    """
    return logits.square().sum(1).mean()
