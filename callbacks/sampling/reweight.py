"""Let bias-conflicting rows weigh more in the loss."""

from __future__ import annotations

from online_debias.engine import Batch, Callback


class Reweight(Callback):
    """Weighs a row by how improbable its class is in the biased view.

    With the posterior score, 1 - conflict = p(target) / max p, so the factor 1 / (1 - conflict) is
    an inverse propensity weight: 1 where the biased view agrees with the class. It needs no guess
    of how many samples conflict.

    Signals: requires `conflict` (argument `signal`); leaves out what `noise` flags, if that is
    published (argument `unless`).
    Records: `weights/reweight`, the mean factor.

    Args:
        signal: name of the score.
        limit: largest factor, above 1.
        unless: name of a score; rows whose sample it flags count as bias-aligned.
        name: unique in a run.

    Example:
        >>> Reweight(limit=50.0).requires
        ('conflict',)
    """

    def __init__(
        self,
        signal: str = "conflict",
        limit: float = 50.0,
        unless: str | None = "noise",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.expect("limit", limit, limit > 1, "a number above 1")
        self.requires, self.optional = (signal,), (unless,) if unless else ()
        self.signal, self.limit, self.unless = signal, limit, unless

    def on_loss(self, batch: Batch) -> None:
        """Multiply the weights; mixed rows have the score 0 and so the factor 1."""
        flagged = self.run.samples.flagged(self.unless, batch.index)
        score = batch.signals[self.signal].masked_fill(flagged, 0.0)
        batch.reweight(self.name, 1 / (1 - score).clamp_min(1 / self.limit))
