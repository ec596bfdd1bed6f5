"""Mean and deviation of features that change as a network trains."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Moments(NamedTuple):
    """Moving mean and sum of squared deviations `[D]` of rows of a `total` mass `[]`."""

    mean: Tensor
    square: Tensor
    total: Tensor


def follow(moments: Moments, x: Tensor, mass: Tensor, retention: float) -> Moments:
    """Return the moments with the rows `x` counted in and those before them counting less.

    Squares are summed about the mean so far, which keeps float32 accurate whatever the mean.

    Args:
        moments: zeros at first.
        x: `[B, D]`.
        mass: `[B]`, how many rows each row stands for.
        retention: what the rows so far still count, in [0, 1).

    Example:
        >>> import torch
        >>> none = Moments(torch.zeros(1), torch.zeros(1), torch.zeros(()))
        >>> follow(none, torch.tensor([[1.0], [3.0]]), torch.ones(2), retention=0.9)
        Moments(mean=tensor([2.]), square=tensor([2.]), total=tensor(2.))
    """
    total = retention * moments.total + mass.sum()
    deviation = x - moments.mean
    shift = mass @ deviation / total.clamp_min(1e-30)
    square = retention * moments.square + mass @ deviation.square() - total * shift.square()
    return Moments(moments.mean + shift, square.clamp_min(0), total)


def standardize(x: Tensor, moments: Moments, eps: float = 1e-5) -> Tensor:
    """Return features `[B, D]` with the mean taken off, over the deviation."""
    variance = moments.square / moments.total.clamp_min(1e-30)
    return (x - moments.mean) * (variance + eps).rsqrt()
