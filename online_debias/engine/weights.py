"""Many callbacks' factors become one weight a row; their tables become one sampling rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

Combine = Literal["product", "geometric", "max"]
Normalize = Literal["batch", "none"]

_COMBINED: dict[Combine, Callable[[Tensor], Tensor]] = {
    "product": lambda stacked: stacked.prod(0),
    "geometric": lambda stacked: stacked.prod(0) ** (1 / len(stacked)),
    "max": lambda stacked: stacked.amax(0),
}


def compose(
    factors: Mapping[str, Tensor],
    combine: Combine = "product",
    normalize: Normalize = "batch",
    clip: tuple[float, float] = (0.0, math.inf),
) -> Tensor:
    """Compose weight factors `[B]` into one weight `[B]` a row.

    Factors are taken in the order of their names, so that float rounding does not depend on the
    order in which callbacks are listed. `normalize="batch"` scales the mean over the batch to 1;
    ranks see the rows of all of them, so it is the mean over the global batch.

    Raises:
        ValueError: `combine` or `normalize` is not one of the words above, or the bounds of `clip`
            are negative or the wrong way round.

    Example:
        >>> compose({"a": torch.tensor([1.0, 3.0])})
        tensor([0.5000, 1.5000])
    """
    check_composition(combine, normalize, clip)
    stacked = torch.stack([factors[name].float() for name in sorted(factors)])  # [K, B]
    composed = _COMBINED[combine](stacked).clamp(*clip)
    if normalize == "batch":
        composed = composed * (len(composed) / composed.sum().clamp_min(1e-30))
    return composed


def check_composition(combine: str, normalize: str, clip: tuple[float, float]) -> None:
    """Raise ValueError where `compose` would."""
    for name, value, words in (
        ("combine", combine, get_args(Combine)),
        ("normalize", normalize, get_args(Normalize)),
    ):
        if value not in words:
            raise ValueError(f"{name} is {value!r}, expected one of {', '.join(words)}.")
    if not 0 <= clip[0] <= clip[1]:
        raise ValueError(f"clip is {list(clip)}, expected two bounds from 0 on, the lower first.")


def effective_sample_size(weight: Tensor) -> Tensor:
    """Return (sum w)^2 / sum w^2 / B: the share of rows that carry the gradient, in (0, 1].

    Example:
        >>> effective_sample_size(torch.tensor([1.0, 0.0, 0.0, 0.0]))
        tensor(0.2500)
    """
    return weight.sum() ** 2 / (weight.square().sum() * len(weight))


def weighted_mean(
    losses: Tensor,
    weights: Tensor | None,
    factors: Mapping[str, Tensor],
    record: Callable[[str, Tensor | float], None],
) -> Tensor:
    """Return the mean of the weighted losses, 0-dim, and record what the weights are like.

    Args:
        losses: `[B]`.
        weights: composed of the factors, `[B]`; None where there are none.
        factors: `[B]`, by contributor.
        record: is given the mean of each factor, the effective sample size and the largest weight.
    """
    for name in sorted(factors):
        record(f"weights/{name}", factors[name].mean())
    record("weights/ess", 1.0 if weights is None else effective_sample_size(weights))
    record("weights/max", 1.0 if weights is None else weights.max())
    return (losses if weights is None else weights * losses).mean()


def rates(tables: Mapping[str, Tensor]) -> Tensor:
    """Compose sampling tables `[N]` into rates `[N]` with mean 1: rate 2 is drawn twice as often.

    Raises:
        ValueError: the product has no positive finite sum; names the tables.

    Example:
        >>> rates({"a": torch.tensor([1.0, 3.0])})
        tensor([0.5000, 1.5000], dtype=torch.float64)
    """
    stacked = torch.stack([tables[name].double() for name in sorted(tables)])
    product = stacked.prod(0)
    total = float(product.sum())  # at a round's border, never in a step
    if not (math.isfinite(total) and total > 0 and bool((stacked >= 0).all())):
        raise ValueError(
            f"The sampling factors of {', '.join(sorted(tables))} multiply to a sum of {total}; "
            "expected factors >= 0 with a positive, finite sum."
        )
    return product * (len(product) / total)
