"""Voronoi cells of the class centroids: who lies how deep in another class's cell."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

By = Literal["target", "bias"]


def centroids(
    features: Tensor, targets: Tensor, right: Tensor, n_classes: int
) -> tuple[Tensor, Tensor]:
    """Return the mean features of each class `[C, D]` and how many rows are in it `[C]`.

    Args:
        features: `[N, D]`.
        targets: `[N]` int64.
        right: `[N]` bool, the rows that count: those that the model classifies correctly.
        n_classes: number of classes; one without such rows has the mean 0 and the count 0.

    Example:
        >>> x, y = torch.tensor([[1.0], [3.0], [9.0]]), torch.tensor([0, 0, 1])
        >>> centroids(x, y, torch.tensor([True, True, False]), 2)
        (tensor([[2.],
                [0.]]), tensor([2., 0.]))
    """
    mass = right.to(features.dtype)
    count = mass.new_zeros(n_classes).index_add(0, targets, mass)
    total = features.new_zeros(n_classes, features.shape[1])
    total = total.index_add(0, targets, features * mass[:, None])
    return total / count.clamp_min(1)[:, None], count


def relative_distance(
    features: Tensor, targets: Tensor, predictions: Tensor, means: Tensor, seen: Tensor
) -> Tensor:
    """Return how far rows are from the border between two cells, `[N]`, without a unit.

    The distance |w.z + h| / |w| of z to the hyperplane between the centroids of its target t and
    its prediction o, w = mean_o - mean_t and h = (|mean_t|^2 - |mean_o|^2) / 2, divided by the mean
    length of a centroid: d_rel of Nahon, Nguyen and Tartaglione (ICCV 2023). 0 where t is o or
    either centroid is unknown.

    Args:
        features: z, `[N, D]`.
        targets: t, `[N]` int64.
        predictions: o, `[N]` int64.
        means: centroids `[C, D]`.
        seen: `[C]` bool, which centroids are known.

    Example:
        >>> means, seen = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([True, True])
        >>> x, y = torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1])
        >>> relative_distance(x, y, torch.tensor([1, 1]), means, seen)
        tensor([1.4142, 0.0000])
    """
    length = (means.norm(dim=1) * seen).sum() / seen.sum().clamp_min(1)
    start, end = means[targets], means[predictions]
    across = end - start
    # w.z + h as w.(z - midpoint): the squares of long centroids would cancel badly.
    beyond = (across * (features - (start + end) / 2)).sum(1).abs()
    tiny = torch.finfo(features.dtype).tiny
    distance = beyond / across.norm(dim=1).clamp_min(tiny) / length.clamp_min(tiny)
    known = (targets != predictions) & seen[targets] & seen[predictions]
    return torch.where(known, distance, 0)


def alignment_share(targets: Tensor, bias: Tensor, n_classes: int, by: By = "target") -> Tensor:
    """Return rho `[C]`, which share of a class is bias-aligned.

    Args:
        targets: `[N]` int64.
        bias: `[N]` int64, pseudo bias labels: the target where a row is aligned.
        n_classes: number of classes C.
        by: the conflicting rows that a class loses: "target", its own, or "bias", those of others
            that lie in its cell, so that rho may be below 0.

    Example:
        >>> targets, bias = torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0, 0, 0, 1, 1, 1])
        >>> alignment_share(targets, bias, 2), alignment_share(targets, bias, 2, "bias")
        (tensor([0.7500, 1.0000]), tensor([1.0000, 0.5000]))
    """
    conflicting = targets != bias
    lost = (targets if by == "target" else bias)[conflicting]
    size = torch.bincount(targets, minlength=n_classes)
    return 1 - torch.bincount(lost, minlength=n_classes) / size.clamp_min(1)


def alignment_weights(targets: Tensor, bias: Tensor, n_classes: int, by: By = "target") -> Tensor:
    """Return loss weights `[N]`: 1 / rho for aligned and 1 / (1 - rho) for conflicting rows.

    So both kinds of rows of a class weigh N_c together. 1 where rho is not between 0 and 1.

    Args:
        targets: `[N]` int64.
        bias: `[N]` int64, pseudo bias labels.
        n_classes: number of classes.
        by: rho, see `alignment_share`, and of which class it is taken for a conflicting row: that
            of the target, as published, or that of the bias label, as the released code has it.

    Example:
        >>> alignment_weights(torch.tensor([0, 0, 0, 0]), torch.tensor([0, 0, 0, 1]), 2)
        tensor([1.3333, 1.3333, 1.3333, 4.0000])
    """
    share = alignment_share(targets, bias, n_classes, by)
    aligned = targets == bias
    own = share[torch.where(aligned, targets, targets if by == "target" else bias)]
    inside = (own > 0) & (own < 1)
    return torch.where(inside, 1 / torch.where(aligned, own, 1 - own), 1)
