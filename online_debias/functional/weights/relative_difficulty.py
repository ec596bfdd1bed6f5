"""LfF's weight: how much harder a sample is for the biased network than for the other one."""

from __future__ import annotations

import torch
from torch import Tensor


def relative_difficulty(
    biased: Tensor, own: Tensor, targets: Tensor, index: Tensor, n_classes: int
) -> Tensor:
    """Return e_b / (e_b + e_d) in [0, 1] of the samples `index`, `[B]`; 1/2 where one is unknown.

    e_b and e_d are the sample's remembered losses under the biased network and under the model,
    each divided by the largest one within the sample's class over the whole training set.

    Args:
        biased: `[N]` remembered losses >= 0 of the biased network, NaN for samples never seen.
        own: `[N]` those of the model, NaN for the same samples.
        targets: `[N]` int64; any class for samples never seen.
        index: `[B]` int64.
        n_classes: number of classes.

    Example:
        >>> biased, own = torch.tensor([3.0, 1.0]), torch.tensor([1.0, 1.0])
        >>> first = torch.tensor([0, 0])  # both samples are of class 0
        >>> relative_difficulty(biased, own, first, torch.tensor([0, 1]), n_classes=1)
        tensor([0.5000, 0.2500])
    """
    e_b, e_d = (_share_of_largest(table, targets, index, n_classes) for table in (biased, own))
    return (e_b / (e_b + e_d + 1e-8)).nan_to_num(0.5)


def _share_of_largest(table: Tensor, targets: Tensor, index: Tensor, n_classes: int) -> Tensor:
    largest = table.new_zeros(n_classes)
    largest.scatter_reduce_(0, targets, table.nan_to_num(), "amax")
    # A class whose losses are all 0 is as easy as can be: 0 / tiny.
    return table[index] / largest[targets[index]].clamp_min(torch.finfo(table.dtype).tiny)
