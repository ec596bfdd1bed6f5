"""Streaming k-means by cosine, in every group of rows on its own.

Centroids are kept as decaying sums of unit features, `sums` `[G, k, D]`, with the mass of the rows
in them, `mass` `[G, k]`. A cluster that holds less than half a row is dead: no row goes to it, and
`seed` places it anew.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_UNREACHED = -2.0  # below any cosine


def alive(mass: Tensor) -> Tensor:
    """Return which clusters hold at least half a row, `[G, k]` bool."""
    return mass >= 0.5


def assign(unit: Tensor, group: Tensor, sums: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
    """Find each row's nearest living centroid in its own group.

    Args:
        unit: features of length 1, `[B, D]`.
        group: `[B]` int64.
        sums: `[G, k, D]`.
        mass: `[G, k]`.

    Returns:
        Number of the cluster in the group, `[B]` int64, 0 where the group has none alive, and the
        cosine with its centroid, `[B]`, there -2.

    Example:
        >>> unit, group = torch.eye(2), torch.tensor([0, 0])
        >>> assign(unit, group, torch.tensor([[[0.0, 3.0], [2.0, 1.0]]]), torch.ones(1, 2))[0]
        tensor([1, 0])
    """
    n_groups, k, _ = sums.shape
    every = (unit @ F.normalize(sums, dim=2).flatten(0, 1).T).view(len(unit), n_groups, k)
    own = every.gather(1, group[:, None, None].expand(-1, 1, k)).squeeze(1)  # [B, k]
    cosine, cluster = torch.where(alive(mass)[group], own, _UNREACHED).max(1)
    return cluster, cosine


def update(
    sums: Tensor,
    mass: Tensor,
    unit: Tensor,
    group: Tensor,
    cluster: Tensor,
    weight: Tensor,
    momentum: float,
) -> tuple[Tensor, Tensor]:
    """Add the rows to their clusters; return the new sums and masses.

    A group forgets by the rows it is shown, not by the step: sums and masses of a group that gets
    the weight n decay by momentum^(n / k), so a cluster of average size remembers about
    1 / (1 - momentum) rows, however many groups, clusters and rows a batch has.

    Args:
        sums: `[G, k, D]`.
        mass: `[G, k]`.
        unit: features of length 1, `[B, D]`.
        group: `[B]` int64.
        cluster: `[B]` int64, see `assign`; rows of a group without living clusters are left out.
        weight: `[B]` >= 0.
        momentum: in [0, 1).
    """
    n_groups, k, _ = sums.shape
    weight = torch.where(alive(mass).any(1)[group], weight, 0)
    slot = group * k + cluster
    shown = weight.new_zeros(n_groups).index_add_(0, group, weight)
    kept = (momentum ** (shown / k))[:, None]
    mass = (mass * kept).flatten().index_add(0, slot, weight)
    sums = (sums * kept[:, :, None]).flatten(0, 1).index_add(0, slot, unit * weight[:, None])
    return sums.view(n_groups, k, -1), mass.view(n_groups, k)


def seed(
    sums: Tensor,
    mass: Tensor,
    unit: Tensor,
    group: Tensor,
    cosine: Tensor,
    weight: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Place the first dead cluster of every group at a row that is far from the living ones.

    The row is drawn as in k-means++ (Arthur and Vassilvitskii, SODA 2007): with a chance that
    grows with its squared distance 2 - 2 cosine, and evenly while nothing lives.

    Args:
        sums: `[G, k, D]`.
        mass: `[G, k]`.
        unit: features of length 1, `[B, D]`.
        group: `[B]` int64.
        cosine: `[B]` with the nearest living centroid, see `assign`.
        weight: `[B]` >= 0; rows of weight 0 are not drawn, others in proportion to it.
        generator: source of randomness, on the rows' device.

    Returns:
        The new sums and masses; a cluster that was placed holds one row.
    """
    n_groups, k, _ = sums.shape
    chance = weight * (1 - cosine)
    # The greatest of chance / Exponential(1) is row i with probability chance_i / sum.
    race = chance / torch.empty_like(chance).exponential_(generator=generator)
    number = torch.arange(n_groups, device=group.device)[:, None]
    can = (group == number) & (chance > 1e-6)  # [G, B]; not a copy of a centroid
    row = torch.where(can, race, -1.0).argmax(1)  # [G]
    dead = ~alive(mass)
    first = dead & (dead.cumsum(1) == 1) & can.any(1, keepdim=True)  # [G, k]
    sums = torch.where(first[:, :, None], unit[row][:, None], sums)
    return sums, mass.masked_fill(first, 1)
