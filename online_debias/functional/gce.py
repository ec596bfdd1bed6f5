"""Generalised cross-entropy (Zhang and Sabuncu, NeurIPS 2018), which amplifies a bias."""

from __future__ import annotations

from torch import Tensor


def generalized_cross_entropy(logits: Tensor, targets: Tensor, q: float = 0.7) -> Tensor:
    """Return (1 - p_y^q) / q of each row, `[B]`.

    Its gradient is that of cross-entropy times p_y^q: what the model finds easy, the shortcut,
    counts more.

    Args:
        logits: `[B, C]`.
        targets: `[B]` int64.
        q: between 0 (cross-entropy) and 1 (mean absolute error).

    Example:
        >>> import torch
        >>> generalized_cross_entropy(torch.zeros(1, 2), torch.tensor([0]), q=1.0)
        tensor([0.5000])
    """
    log_p = logits.log_softmax(1).gather(1, targets[:, None]).squeeze(1)
    return -(q * log_p).expm1() / q
