"""The default criterion."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of each row, `[B]`.

    Args:
        logits: `[B, C]`.
        targets: `[B]` int64.

    Example:
        >>> import torch
        >>> cross_entropy(torch.zeros(1, 2), torch.tensor([0]))
        tensor([0.6931])
    """
    return F.cross_entropy(logits, targets, reduction="none")
