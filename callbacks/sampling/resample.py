"""Draw bias-conflicting samples more often."""

from __future__ import annotations

import torch
from torch import Tensor

from online_debias.engine import Batch, Callback, Run, SampleMemory
from online_debias.functional.weights.draw_share import draw_share


class Resample(Callback):
    """Draws samples so that conflicting ones get a chosen share of their class's draws.

    The batch balancing of MoDAD (Pastore et al., WACV 2025), online: scores are remembered sample
    by sample, and every new round is drawn from them. Needs `sampler=engine.sampler()` in an own
    loop.

    Signals: requires `conflict` (argument `signal`).
    Records: `sampling/max_rate`, how much oftener than uniform the most drawn sample is drawn.

    Args:
        signal: name of the score.
        share: share of a class's draws that goes to conflicting samples, in (0, 1).
        sharpness: slope of the sigmoid that turns a score into a degree of conflict. It must be
            steep, since small degrees of many aligned samples add up: with 10, each that scores 0
            still has .7 % of a conflicting one's, as much in all as one in 150 samples; with 24,
            6e-6.
        momentum: of each sample's moving average of the score.
        warmup: epochs drawn evenly first, at least 1.
        name: unique in a run.

    Example:
        >>> Resample(share=0.5).requires
        ('conflict',)
    """

    targets: Tensor

    def __init__(
        self,
        signal: str = "conflict",
        share: float = 0.7,
        sharpness: float = 24.0,
        momentum: float = 0.7,
        warmup: int = 1,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if not 0 < share < 1:
            raise ValueError(f"Resample: share is {share}, expected a number between 0 and 1.")
        if not 0 <= momentum < 1:
            raise ValueError(f"Resample: momentum is {momentum}, expected 0 <= momentum < 1.")
        if warmup < 1:
            raise ValueError(f"Resample: warmup is {warmup}, expected at least 1 epoch.")
        self.requires = (signal,)
        self.signal, self.share, self.sharpness = signal, share, sharpness
        self.momentum, self.warmup = momentum, warmup

    def setup(self, run: Run) -> None:
        """Make the memories of scores and targets."""
        self.scores = SampleMemory(run.n_samples, self.momentum)
        self.register_buffer("targets", torch.zeros(run.n_samples, dtype=torch.long))

    def on_features(self, batch: Batch) -> None:
        """Remember the scores of the rows of which something is known."""
        self.scores.follow(batch, self.signal)
        self.targets.index_copy_(0, batch.index, batch.targets)

    def on_epoch_end(self, run: Run) -> None:
        """Propose the factors for the next round."""
        if run.epoch + 1 < self.warmup:
            return
        factor = draw_share(
            self.scores.values, self.targets, run.n_classes, self.share, self.sharpness
        )
        run.resample(self.name, None, factor)
        run.record("sampling/max_rate", factor.max())
