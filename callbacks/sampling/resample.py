"""Draw bias-conflicting samples more often."""

from __future__ import annotations

from online_debias.engine import Callback, Run
from online_debias.functional.weights.draw_share import draw_share


class Resample(Callback):
    """Draws samples so that conflicting ones get a chosen share of their class's draws.

    The batch balancing of MoDAD (Pastore et al., WACV 2025), online: every new round is drawn from
    what is known of the samples (`run.samples`). Needs `sampler=engine.sampler()` in an own loop.

    Signals: requires `conflict` (argument `signal`); leaves out what `noise` flags, if that is
    published (argument `unless`).
    Records: `sampling/max_rate`, how much oftener than uniform the most drawn sample is drawn.

    Args:
        signal: name of the score.
        unless: name of a score; samples that it flags count as bias-aligned.
        share: share of a class's draws that goes to conflicting samples, in (0, 1).
        sharpness: slope of the sigmoid that turns a score into a degree of conflict. It must be
            steep, since small degrees of many aligned samples add up: with 10, each that scores 0
            still has .7 % of a conflicting one's, as much in all as one in 150 samples; with 24,
            6e-6.
        warmup: epochs drawn evenly first, at least 1.
        name: unique in a run.

    Example:
        >>> Resample(share=0.5).requires
        ('conflict',)
    """

    def __init__(
        self,
        signal: str = "conflict",
        share: float = 0.7,
        sharpness: float = 24.0,
        warmup: int = 1,
        unless: str | None = "noise",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.expect("share", share, 0 < share < 1, "a number between 0 and 1")
        self.expect("warmup", warmup, warmup >= 1, "at least 1 epoch")
        self.requires, self.optional = (signal,), (unless,) if unless else ()
        self.signal, self.unless = signal, unless
        self.share, self.sharpness, self.warmup = share, sharpness, warmup

    def on_epoch_end(self, run: Run) -> None:
        """Propose the factors for the next round."""
        if run.epoch + 1 < self.warmup:
            return
        scores = run.samples.values(self.signal, self.unless)
        factor = draw_share(scores, run.samples.targets, run.n_classes, self.share, self.sharpness)
        run.resample(self.name, None, factor)
        run.record("sampling/max_rate", factor.max())
