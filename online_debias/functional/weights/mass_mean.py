"""A mean over rows that stands for the training set, however the rows were drawn."""

from __future__ import annotations

from torch import Tensor


def mass_mean(value: Tensor, mass: Tensor) -> Tensor:
    """Return sum(mass * value) / sum(mass), a scalar; 0 without any mass.

    With the mass 1 / rate it estimates the mean over evenly drawn samples.

    Args:
        value: `[B]`, with its graph.
        mass: `[B]` >= 0, 0 for rows that do not count.

    Example:
        >>> import torch
        >>> mass_mean(torch.tensor([1.0, 5.0, 9.0]), torch.tensor([1.0, 1.0, 0.0]))
        tensor(3.)
    """
    return (mass * value).sum() / mass.sum().clamp_min(1e-30)
