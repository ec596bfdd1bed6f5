"""RUBi: mask the logits by what the biased view predicts."""

from __future__ import annotations

from online_debias.engine import Batch, Callback


class RUBi(Callback):
    """Lets the criterion see logits * sigmoid(bias_logits).

    RUBi (Cadene, Dancette, Ben-younes, Cord, Parikh, NeurIPS 2019): where the biased view is sure
    of the target the other classes are masked, the loss is small and little is learned; where it is
    sure of another class the loss is large. The paper's mask is learned through this loss as well;
    here it is the biased view's own prediction, which learns from its own loss alone.

    Signals: requires `bias_logits` (argument `signal`).
    Records: nothing.

    Args:
        signal: name of the biased view's logits.
        name: unique in a run.

    Example:
        >>> RUBi().requires
        ('bias_logits',)
    """

    def __init__(self, signal: str = "bias_logits", name: str | None = None) -> None:
        super().__init__(name)
        self.requires, self.signal = (signal,), signal

    def on_features(self, batch: Batch) -> None:
        """Shift the logits by logits * (sigmoid(bias_logits) - 1)."""
        assert batch.logits is not None
        mask = batch.signals[self.signal].sigmoid()
        batch.shift_logits(self.name, batch.logits * (mask - 1))
