"""LearnedMixin's two terms: the biased view's share in the prediction, and how sure it is."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def mixin(gate: Tensor, bias_logits: Tensor) -> Tensor:
    """Return softplus(gate) * log p, `[B, C]`, where p is what the biased view predicts.

    Args:
        gate: `[B]`, how far each row trusts the biased view, before the softplus.
        bias_logits: `[B, C]`.

    Example:
        >>> import torch
        >>> mixin(torch.tensor([0.0]), torch.tensor([[0.0, 0.0]]))  # log 2 * log 1/2
        tensor([[-0.4805, -0.4805]])
    """
    return F.softplus(gate)[:, None] * bias_logits.log_softmax(1)


def softmax_entropy(logits: Tensor) -> Tensor:
    """Return the entropy of each row's softmax, `[B]`.

    Example:
        >>> import torch
        >>> softmax_entropy(torch.tensor([[0.0, 0.0], [8.0, 0.0]]))
        tensor([0.6931, 0.0030])
    """
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)
