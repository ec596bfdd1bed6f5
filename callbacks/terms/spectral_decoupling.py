"""Spectral decoupling: keep logits small, so that no feature starves the others."""

from __future__ import annotations

import math

from online_debias.engine import Batch, Callback
from online_debias.functional.losses.spectral_decoupling import mean_squared_norm


class SpectralDecoupling(Callback):
    """Adds weight / 2 * mean over rows of |logits|^2, in the place of weight decay.

    Gradient Starvation (Pezeshki et al., NeurIPS 2021). Squares are summed over the C classes and
    averaged over the rows; a mean over rows and classes, without the half, is the same penalty at
    weight * C / 2. The logits are the model's own, without shifts, of all rows alike, whatever
    their weights.

    Signals: none.
    Records: `terms/spectral_decoupling`, the penalty.

    Args:
        weight: lambda of the paper, which tunes it by data set.
        name: unique in a run.

    Raises:
        ValueError: `weight` is not a positive number.

    Example:
        >>> SpectralDecoupling(weight=0.01).requires
        ()
    """

    def __init__(self, weight: float = 0.01, name: str | None = None) -> None:
        super().__init__(name)
        self.expect("weight", weight, 0 < weight < math.inf, "a finite number above 0")
        self.weight = weight

    def on_loss(self, batch: Batch) -> None:
        """Add the penalty."""
        assert batch.logits is not None
        batch.add_loss(self.name, self.weight / 2 * mean_squared_norm(batch.logits))
