"""Score how likely each row is bias-conflicting, by its loss."""

from __future__ import annotations

from online_debias.engine import Batch, Callback, Run, SampleMemory
from online_debias.functional.losses.cross_entropy import cross_entropy
from online_debias.functional.scores.loss_score import loss_score


class LossScore(Callback):
    """Publishes 1 - exp(-loss), of the row's cross-entropy or of its sample's moving average.

    A bias is learned first, so rows that go against it have the larger loss early in training
    (Nam et al., "Learning from Failure", NeurIPS 2020). It is the cheapest score, needs no tap, and
    in the first epochs it is as good as any. It decays fastest: as the model learns the
    conflicting samples by heart their loss becomes as small as that of the others. The moving
    average remembers, and so decays later; without it (momentum 0) the score is 1 - p(target).

    Signals: provides `conflict` in [0, 1] (argument `signal`); mixed rows are published as 0.
    Records: `detect/mean_score`, the mean score of the batch.

    Args:
        momentum: of each sample's moving average of the loss, in [0, 1); 0 remembers nothing.
        signal: name of the published score.
        name: unique in a run.

    Raises:
        ValueError: `momentum` is out of range.

    Example:
        >>> LossScore(momentum=0.0).provides
        ('conflict',)
    """

    def __init__(
        self, momentum: float = 0.7, signal: str = "conflict", name: str | None = None
    ) -> None:
        super().__init__(name)
        self.expect("momentum", momentum, 0 <= momentum < 1, "0 <= momentum < 1")
        self.provides = (signal,)
        self.momentum, self.signal = momentum, signal

    def setup(self, run: Run) -> None:
        """Make the memory of losses."""
        self.losses = SampleMemory(run.n_samples, self.momentum) if self.momentum else None

    def on_features(self, batch: Batch) -> None:
        """Remember the loss, and publish."""
        assert batch.logits is not None
        loss = cross_entropy(batch.logits.detach(), batch.targets)
        if self.losses is not None:
            self.losses.update(batch.index, loss, ~batch.mixed)
            loss = self.losses.read(batch.index)
        batch.publish(self.signal, loss_score(loss), ~batch.mixed)
        self.run.record("detect/mean_score", batch.signals[self.signal].mean())
