"""Generalised cross-entropy (Zhang and Sabuncu, NeurIPS 2018), which amplifies a bias."""

from __future__ import annotations

import torch.nn.functional as F
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


def scaled_cross_entropy(logits: Tensor, targets: Tensor, q: float = 0.7) -> Tensor:
    """Return cross-entropy times q * p_y^q, `[B]`, where no gradient goes into the factor.

    Its gradient is q times that of `generalized_cross_entropy`.

    Args:
        logits: `[B, C]`.
        targets: `[B]` int64.
        q: above 0, up to 1.

    Example:
        >>> import torch
        >>> scaled_cross_entropy(torch.zeros(1, 2), torch.tensor([0]), q=1.0)
        tensor([0.3466])
    """
    losses = F.cross_entropy(logits, targets, reduction="none")
    return losses * (q * (-q * losses.detach()).exp())


class GeneralizedCrossEntropy:
    """Generalised cross-entropy as a run's criterion: it trains a model to take the shortcut.

    Args:
        q: above 0 (near cross-entropy), up to 1 (mean absolute error).

    Raises:
        ValueError: `q` is out of range.

    Example:
        >>> import torch
        >>> GeneralizedCrossEntropy(q=1.0)(torch.zeros(1, 2), torch.tensor([0]))
        tensor([0.5000])
    """

    def __init__(self, q: float = 0.7) -> None:
        if not 0 < q <= 1:
            raise ValueError(f"GeneralizedCrossEntropy: q is {q}, expected 0 < q <= 1.")
        self.q = q

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each row, `[B]`."""
        return generalized_cross_entropy(logits, targets, self.q)
