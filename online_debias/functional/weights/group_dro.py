"""Group distributionally robust optimisation: the worse a group fares, the more it counts."""

from __future__ import annotations

import torch
from torch import Tensor

from online_debias.functional.by_index import mean_by_index


def group_means(losses: Tensor, group: Tensor, keep: Tensor, n_groups: int) -> Tensor:
    """Return the mean loss of each group's rows, `[G]`; 0 for groups without a row.

    Args:
        losses: `[B]`.
        group: `[B]` int64.
        keep: `[B]` bool, rows that count.
        n_groups: G.

    Example:
        >>> losses, group = torch.tensor([1.0, 3.0, 9.0]), torch.tensor([2, 2, 0])
        >>> group_means(losses, group, torch.tensor([True, True, False]), 3)
        tensor([0., 0., 2.])
    """
    slot = torch.where(keep, group, n_groups)  # one more, for rows that do not count
    means = losses.new_zeros(n_groups + 1)
    return means.index_copy(0, slot, mean_by_index(slot, losses))[:-1]


def exponentiated_update(
    log_share: Tensor, losses: Tensor, sizes: Tensor, step_size: float, adjustment: float
) -> Tensor:
    """Return log q for q_g proportional to q_g exp(step_size (L_g + adjustment / sqrt(n_g))).

    In logarithms a group that fared well for long does not underflow to a share of 0, from which
    it could never come back.

    Args:
        log_share: log q, `[G]`.
        losses: L_g, `[G]`.
        sizes: n_g, `[G]`; a group of which no sample is known has no adjustment.
        step_size: eta.
        adjustment: C, large for groups that are hard to generalise from.

    Example:
        >>> even, losses = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.0, 3.0]).log1p()
        >>> exponentiated_update(even, losses, torch.zeros(2), 1.0, 0.0).exp()
        tensor([0.2000, 0.8000])
    """
    margin = torch.where(sizes > 0, adjustment * sizes.clamp_min(1).rsqrt(), 0.0)
    return (log_share + step_size * (losses + margin)).log_softmax(0)


def row_factors(share: Tensor, group: Tensor) -> Tensor:
    """Return B q_g / n_g of each row's group, `[B]`: their mean with the losses is sum q_g L_g.

    Args:
        share: q, `[G]`.
        group: `[B]` int64; n_g is the number of a group's rows among them.

    Example:
        >>> row_factors(torch.tensor([0.2, 0.8]), torch.tensor([0, 0, 1]))
        tensor([0.3000, 0.3000, 2.4000])
    """
    size = (group[:, None] == group).sum(1)
    return len(group) * share[group] / size


def group_sizes(group: Tensor, n_groups: int) -> Tensor:
    """Return the number of samples known to be in each group, `[G]`.

    Args:
        group: `[N]`, NaN for samples never seen.
        n_groups: G.

    Example:
        >>> group_sizes(torch.tensor([0.0, torch.nan, 2.0, 0.0]), 3)
        tensor([2., 0., 1.])
    """
    slot = group.nan_to_num(n_groups).long()  # one more, for those never seen
    sizes = group.new_zeros(n_groups + 1)
    return sizes.index_add(0, slot, torch.ones_like(group))[:-1]


def balanced_rates(group: Tensor, sizes: Tensor, limit: float) -> Tensor:
    """Return sampling factors `[N]` that draw every group equally often, up to a limit.

    Each of the groups that have a sample gets the same part of the draws and its samples share it
    evenly; samples never seen get the mean factor of the others.

    Args:
        group: `[N]`, NaN for samples never seen.
        sizes: of `group_sizes`, `[G]`.
        limit: largest factor, where the mean is 1 if no group reaches it.

    Example:
        >>> group = torch.tensor([0.0, 0.0, 0.0, 1.0, torch.nan])
        >>> balanced_rates(group, group_sizes(group, 3), limit=50.0)
        tensor([0.6667, 0.6667, 0.6667, 2.0000, 1.0000])
    """
    seen = ~group.isnan()
    n_seen, n_groups = sizes.sum(), (sizes > 0).sum()
    even = (n_seen / (n_groups * sizes).clamp_min(1)).clamp_max(limit)  # [G]
    mean = torch.where(n_seen > 0, (sizes * even).sum() / n_seen.clamp_min(1), 1.0)
    return torch.where(seen, even[group.nan_to_num().long()], mean)
