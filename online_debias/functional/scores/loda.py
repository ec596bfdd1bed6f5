"""LODA: histograms of sparse random projections (Pevny, Machine Learning 2016), for classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sparse_projections(
    n_projections: int, n_features: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw projections that read about the square root of all features each.

    Args:
        n_projections: how many.
        n_features: width of a row.
        generator: source of randomness, on the CPU.

    Returns:
        feature `[K, S]` int64, no feature twice in a projection, and weight `[K, S]`, standard
        normal.
    """
    reads = math.ceil(math.sqrt(n_features))
    order = torch.rand(n_projections, n_features, generator=generator).argsort(1)
    return order[:, :reads].contiguous(), torch.randn(n_projections, reads, generator=generator)


def project(x: Tensor, feature: Tensor, weight: Tensor) -> Tensor:
    """Return the projections `[B, K]` of rows `[B, D]`; NaN only where a feature it reads is NaN.

    Args:
        x: features `[B, D]`.
        feature: what each projection reads, `[K, S]` int64.
        weight: and how, `[K, S]`.

    Example:
        >>> x = torch.tensor([[1.0, 2.0, torch.nan]])
        >>> project(x, torch.tensor([[0, 1], [1, 2]]), torch.ones(2, 2))
        tensor([[3., nan]])
    """
    read = x.index_select(1, feature.flatten()).view(len(x), *feature.shape)
    return (read * weight).sum(2)


def equal_bins(value: Tensor, centre: Tensor, deviation: Tensor, bins: int) -> Tensor:
    """Return the bin of every value, `[B, K]` int32; bins are equal parts of the normal CDF.

    Args:
        value: `[B, K]`; what is NaN falls into the last bin.
        centre: `[K]`.
        deviation: `[K]`.
        bins: how many.

    Example:
        >>> value = torch.tensor([[-9.0], [-0.1], [0.1], [9.0], [torch.nan]])
        >>> equal_bins(value, torch.zeros(1), torch.ones(1), bins=4).flatten()
        tensor([0, 1, 2, 3, 3], dtype=torch.int32)
    """
    share: Tensor = torch.special.ndtr((value - centre) / deviation.clamp_min(1e-30))
    return (share.nan_to_num(1.0) * bins).int().clamp_max(bins - 1)


def bin_posterior(masses: Tensor, least_mass: float, prior: float) -> Tensor:
    """Return p(class | bin), `[H, K, C]`, as if classes were equally common.

    Args:
        masses: of every bin, projection and class, `[H, K, C]`.
        least_mass: mass a class needs to be weighed as if it were as common as others.
        prior: mass added to every class of a bin.

    Example:
        >>> masses = torch.tensor([[[9.0, 0.0]], [[0.0, 3.0]]])
        >>> bin_posterior(masses, least_mass=1e-6, prior=1.0)
        tensor([[[0.8750, 0.1250]],
        <BLANKLINE>
                [[0.1250, 0.8750]]])
    """
    of_class = masses.sum((0, 1)) / masses.shape[1]
    rarity = (of_class.mean() + least_mass) / (of_class + least_mass)
    likely = masses * rarity + prior
    return likely / likely.sum(2, keepdim=True)


def bin_rareness(masses: Tensor, prior: float) -> Tensor:
    """Return -log of a bin's mass relative to its projection's fullest bin, `[H, K, C]` >= 0.

    Args:
        masses: of every bin, projection and class, `[H, K, C]`.
        prior: mass added to every bin, so that empty ones are not infinitely rare.

    Example:
        >>> bin_rareness(torch.tensor([[[7.0]], [[1.0]]]), prior=1.0).exp().flatten()
        tensor([1., 4.])
    """
    masses = masses + prior
    return masses.amax(0).log() - masses.log()
