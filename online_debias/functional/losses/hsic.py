"""The Hilbert-Schmidt independence criterion: how far two features of the same rows depend."""

from __future__ import annotations

import torch
from torch import Tensor


def rbf_kernel(features: Tensor, keep: Tensor, sigma: float) -> Tensor:
    """Return exp(-d^2 / (2 sigma^2 m)), `[B, B]`, where m is the mean d^2 between kept rows.

    Measured against m a width fits features of any scale and number, and no gradient goes into
    their scale: features could else make themselves independent by growing.

    Args:
        features: `[B, D]`.
        keep: `[B]` bool, rows that count.
        sigma: width, in units of the root mean square distance.

    Example:
        >>> z = torch.tensor([[0.0], [2.0]])
        >>> rbf_kernel(z, torch.tensor([True, True]), sigma=1.0)
        tensor([[1.0000, 0.6065],
                [0.6065, 1.0000]])
    """
    centred = features - features.mean(0)  # else rounding swallows small distances
    squares = centred.square().sum(1)
    distance = (squares[:, None] + squares - 2 * centred @ centred.T).clamp_min(0)
    pairs = _pairs(keep).to(features.dtype)
    mean = (distance * pairs).sum() / pairs.sum().clamp_min(1)
    return (distance / (-2 * sigma**2 * mean.clamp_min(1e-12))).exp()


def hsic(kernel: Tensor, other: Tensor, keep: Tensor) -> Tensor:
    """Return the unbiased estimate of HSIC, a scalar; 0 with fewer than 4 rows.

    Song et al., JMLR 2012. For independent features it is 0 on average, so it can be negative.

    Args:
        kernel: `[B, B]`, symmetric, of one feature.
        other: `[B, B]`, symmetric, of the other.
        keep: `[B]` bool, rows that count.

    Example:
        >>> same = torch.eye(4) + torch.eye(4).flip(0)  # two pairs that are alike
        >>> hsic(same, same, torch.ones(4, dtype=torch.bool))
        tensor(0.6667)
    """
    pairs = _pairs(keep)
    k, m = torch.where(pairs, kernel, 0), torch.where(pairs, other, 0)
    n = keep.sum().clamp_min(4).to(k.dtype)
    of_row, of_other = k.sum(1), m.sum(1)  # [B]
    total = (k * m).sum()
    total = total + of_row.sum() * of_other.sum() / ((n - 1) * (n - 2))
    total = total - 2 * (of_row @ of_other) / (n - 2)
    return torch.where(keep.sum() >= 4, total / (n * (n - 3)), 0)


def _pairs(keep: Tensor) -> Tensor:
    """`[B, B]` bool, pairs of two different rows that both count."""
    itself = torch.eye(len(keep), dtype=torch.bool, device=keep.device)
    return keep[:, None] & keep & ~itself
