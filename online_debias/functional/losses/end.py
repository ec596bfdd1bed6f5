"""EnD's two terms (Tartaglione, Barbano, Grangetto, CVPR 2021), as in the paper and as released.

Both read the cosines g_ij of the rows' features. Disentangling pushes apart rows of one bias
value; entangling pulls together rows of one class that differ in their bias value.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Variant = Literal["paper", "code"]


def disentangle(features: Tensor, bias: Tensor, keep: Tensor, variant: Variant = "paper") -> Tensor:
    """Return how alike rows of the same bias value are; a scalar, 0 without such rows.

    "paper" is the mean over bias values of the mean |g_ij| over all ordered pairs, self-pairs
    included. "code" is the sum over bias values of |sum of g_ij|, over the number of pairs i > j.

    Args:
        features: `[B, D]`, any length.
        bias: `[B]` int64.
        keep: `[B]` bool, rows that count.
        variant: "paper" or "code".
    """
    unit = F.normalize(features, dim=1)
    cosine = unit @ unit.T
    same = (bias[:, None] == bias) & keep[:, None] & keep
    if variant == "paper":
        size = same.sum(1).clamp_min(1)  # [B] rows of this row's bias value
        values = (keep / size).sum().clamp_min(1)
        return ((cosine.abs() * same).sum(1) / size.square()).sum() / values
    pairs = same.tril(-1)
    of_row = (cosine * pairs).sum(1)
    of_value = (same * of_row).sum(1)  # [B] the bias value's whole sum, at each of its rows
    size = same.sum(1).clamp_min(1)
    return (keep * of_value.abs() / size).sum() / pairs.sum().clamp_min(1)


def entangle(
    features: Tensor, targets: Tensor, bias: Tensor, keep: Tensor, variant: Variant = "paper"
) -> Tensor:
    """Return how far apart rows of one class and different bias values are; 0 without such rows.

    "paper" is 1 - mean g_ij over a row's partners, averaged over the rows that have one. "code"
    is 1 - mean (1 + g_ij) / 2 over the pairs whose later row has the smaller bias value, about
    half of them.

    Args:
        features: `[B, D]`, any length.
        targets: `[B]` int64.
        bias: `[B]` int64.
        keep: `[B]` bool, rows that count.
        variant: "paper" or "code".

    Example:
        >>> import torch
        >>> z, y, b = torch.eye(2), torch.tensor([3, 3]), torch.tensor([0, 1])
        >>> entangle(z, y, b, keep=torch.tensor([True, True]))
        tensor(1.)
    """
    unit = F.normalize(features, dim=1)
    pairs = (targets[:, None] == targets) & keep[:, None] & keep
    if variant == "paper":
        pairs = pairs & (bias[:, None] != bias)
    else:
        pairs = (pairs & (bias[:, None] < bias)).tril(-1)
    partners = pairs.sum(1)  # [B]
    # A row's sum of g_ij is its product with its partners' sum: no gradient of [B, B] is needed.
    cosine = (unit * (pairs.to(unit.dtype) @ unit)).sum(1)
    if variant == "paper":
        has_partner = (partners > 0).to(unit.dtype)
        distance = has_partner - cosine / partners.clamp_min(1)
        return distance.sum() / has_partner.sum().clamp_min(1)
    return ((partners - cosine) / 2).sum() / partners.sum().clamp_min(1)
