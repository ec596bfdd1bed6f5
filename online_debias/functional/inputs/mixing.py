"""Partners and shares for mixing rows of one class across bias values."""

from __future__ import annotations

import torch
from torch import Tensor


def cross_bias_partners(
    targets: Tensor, bias: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Choose for every row a random row of the same class and another bias value.

    Args:
        targets: `[B]` int64.
        bias: `[B]`, NaN where it is not known.
        generator: source of randomness, on the rows' device.

    Returns:
        partner `[B]` int64 (the row itself if there is none) and has_partner `[B]` bool.
    """
    fits = (targets[:, None] == targets) & (bias[:, None] != bias)
    known = ~bias.isnan()
    fits &= known[:, None] & known
    rank = fits.cumsum(1, dtype=torch.int32)  # [B, B], which of the fitting rows a row is
    count = rank[:, -1]
    draw = torch.rand(len(targets), generator=generator, device=targets.device)
    chosen = (draw * count).int()[:, None] + 1
    # The first row of that rank; in a row without a partner, where none is, the place is unused.
    partner = (rank == chosen).int().argmax(1)
    itself = torch.arange(len(targets), device=targets.device)
    return torch.where(count > 0, partner, itself), count > 0


def symmetric_beta(n: int, concentration: int, generator: torch.Generator) -> Tensor:
    """Draw `[n]` from Beta(a, a) for a whole number a: the median of 2a - 1 uniform draws.

    Example:
        >>> symmetric_beta(3, 2, torch.Generator().manual_seed(0)).shape
        torch.Size([3])
    """
    draws = torch.rand(2 * concentration - 1, n, generator=generator, device=generator.device)
    return draws.median(0).values
