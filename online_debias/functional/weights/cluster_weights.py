"""ClusterFix's weights (Capitani et al., WACV 2024): small and hard clusters count more."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def own_pseudo_losses(
    features: Tensor, targets: Tensor, cluster: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    """Return the cross-entropy of the cluster in each row's class, `[B]`, by the class's own head.

    Args:
        features: `[B, D]`.
        targets: `[B]` int64.
        cluster: `[B]` int64, in 0..k-1.
        weight: `[C, k, D]`.
        bias: `[C, k]`.
    """
    n_classes, k, _ = weight.shape
    every = F.linear(features, weight.flatten(0, 1), bias.flatten()).view(-1, n_classes, k)
    own = every.gather(1, targets[:, None, None].expand(-1, 1, k)).squeeze(1)
    return F.cross_entropy(own, cluster, reduction="none")


def cluster_means(losses: Tensor, cluster: Tensor, n_clusters: int) -> tuple[Tensor, Tensor]:
    """Return each cluster's mean loss over the samples seen, 0 without any, and their number.

    Args:
        losses: `[N]`, NaN for samples never seen.
        cluster: `[N]`, NaN for samples never seen.
        n_clusters: K.

    Returns:
        Means `[K]` and sizes `[K]`.

    Example:
        >>> losses, cluster = torch.tensor([1.0, 3.0, 5.0]), torch.tensor([1.0, 1.0, torch.nan])
        >>> cluster_means(losses, cluster, 2)
        (tensor([0., 2.]), tensor([0., 2.]))
    """
    seen = ~(losses.isnan() | cluster.isnan())
    slot = torch.where(seen, cluster, n_clusters).long()  # one slot more, for those not seen
    zero = losses.new_zeros(n_clusters + 1)
    total = zero.index_add(0, slot, torch.where(seen, losses, 0))[:-1]
    size = zero.index_add(0, slot, torch.ones_like(losses))[:-1]
    return total / size.clamp_min(1), size


def cluster_weights(mean: Tensor, size: Tensor) -> Tensor:
    """Return N / N_c * L_c / sum L, `[K]`, 0 for empty clusters; over all samples its mean is 1.

    Where no cluster has a loss all count as equally hard.

    Args:
        mean: L_c, mean loss of each cluster, `[K]` >= 0.
        size: N_c, samples in each cluster, `[K]`.

    Example:
        >>> cluster_weights(torch.tensor([1.0, 3.0, 0.0]), torch.tensor([9.0, 1.0, 0.0]))
        tensor([0.2778, 7.5000, 0.0000])
    """
    mean = torch.where(mean.sum() > 0, mean, (size > 0).to(mean.dtype))
    share = mean / mean.sum().clamp_min(torch.finfo(mean.dtype).tiny)
    return share * size.sum() / size.clamp_min(1)


def average_visited(
    average: Tensor, value: Tensor, cluster: Tensor, keep: Tensor, momentum: float
) -> Tensor:
    """Return (1 - m) * average + m * value for the clusters in the batch; others stay as they are.

    Args:
        average: `[K]`.
        value: `[K]`.
        cluster: `[B]` int64.
        keep: `[B]` bool, rows that count as a visit.
        momentum: m, what the new value counts.
    """
    visits = torch.zeros_like(average).index_add(0, cluster, keep.to(average.dtype))
    return torch.where(visits > 0, average.lerp(value, momentum), average)
