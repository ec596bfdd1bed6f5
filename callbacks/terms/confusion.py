"""Turning a blind eye: features from which a head cannot tell the bias value."""

from __future__ import annotations

from torch import Tensor

from online_debias.functional.losses.confusion import uniform_cross_entropy
from online_debias.functional.weights.mass_mean import mass_mean

from .private_head import PrivateHead


class Confusion(PrivateHead):
    """Adds the cross-entropy between the uniform distribution and what a head reads of the bias.

    The confusion loss of "Turning a Blind Eye" (Alvi, Zisserman, Nellaker, ECCV workshops 2018),
    with pseudo bias labels instead of true ones. Unlike a reversed gradient it is bounded below,
    by log K of K bias values, where the head's prediction says nothing. The paper takes turns
    between the head and the model; here both learn in every step.

    Signals: requires `bias_label` (argument `signal`).
    Records: `terms/confusion`, the weighted confusion loss; `terms/confusion_head`, the
    cross-entropy of the head.

    Args:
        weight: of the confusion loss, relative to the criterion's 1.
        signal: name of the bias label.
        tap: name of the features.
        name: unique in a run.

    Raises:
        ValueError: `weight` is not a positive number.

    Example:
        >>> Confusion(tap="shallow").taps
        ('shallow',)
    """

    def __init__(
        self,
        weight: float = 0.1,
        signal: str = "bias_label",
        tap: str = "bottleneck",
        name: str | None = None,
    ) -> None:
        super().__init__(weight, signal, tap, name)

    def removal(self, logits: Tensor, bias: Tensor, keep: Tensor) -> Tensor:
        """Return the mean confusion loss of the rows that count."""
        return mass_mean(uniform_cross_entropy(logits), keep.to(logits.dtype))
