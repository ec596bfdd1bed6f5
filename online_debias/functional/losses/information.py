"""How much a soft prediction tells of a label: what IRENE takes out of the bottleneck."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_LEAST = 1e-15


def normalized_mutual_information(logits: Tensor, labels: Tensor, keep: Tensor) -> Tensor:
    """Return I(label; prediction) / log K over the rows that count; a scalar, 0 without such rows.

    J = Y^T P / B is the joint distribution of the one-hot labels Y and the soft predictions P, and
    I = sum J log(J / (row sums x column sums)): 0 if the predictions are the same whatever the
    label, 1 if they are certain, right and all K values equally common. Y^T P and the product of
    the margins are at least 1e-15, so that values without a row add nothing and no gradient.

    Args:
        logits: `[B, K]`, K > 1.
        labels: `[B]` int64.
        keep: `[B]` bool, rows that count.

    Example:
        >>> labels, keep = torch.tensor([0, 1]), torch.tensor([True, True])
        >>> normalized_mutual_information(torch.zeros(2, 2), labels, keep)
        tensor(0.)
        >>> normalized_mutual_information(100 * torch.eye(2), labels, keep)
        tensor(1.)
    """
    n_values = logits.shape[1]
    is_value = (labels[:, None] == torch.arange(n_values, device=labels.device)) & keep[:, None]
    rows = keep.sum().clamp_min(1)
    joint = (is_value.to(logits.dtype).T @ logits.softmax(1)).clamp_min(_LEAST) / rows  # [K, K]
    margins = (joint.sum(1, keepdim=True) * joint.sum(0)).clamp_min(_LEAST)
    return (joint * (joint / margins).log()).sum() / math.log(n_values)
