"""Score how likely each row is bias-conflicting, with a streaming detector on tapped features."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from online_debias.detectors import Detector, HalfSpaceTrees
from online_debias.detectors.posterior import seen_class
from online_debias.engine import Batch

from .detecting import Detecting


class ConflictScore(Detecting):
    """Publishes the conflict score of every row, and the bias value the biased view sees in it.

    Rows are scored first and learned after, with the mass 1 / rate, so that drawing conflicting
    samples more often does not make them common. The default tap is shallow: the bottleneck of a
    model that is being debiased stops telling which samples conflict.

    Signals: provides `conflict` in [0, 1] (argument `signal`) and, with a detector that has class
    posteriors, `bias_group`, the class whose region the row lies in (argument `group_signal`).
    Mixed rows, and all rows until the detector is ready, are published as not conflicting: score 0,
    the target as bias value; the latter are withheld, so that nobody remembers them.
    Records: `detect/mean_score`, the mean score of the batch.

    Args:
        detector: a class-conditional detector; half-space trees with label posteriors by default.
        tap: name of the features.
        signal: name of the published score.
        group_signal: name of the published bias value.
        name: unique in a run.

    Raises:
        ValueError: the detector ignores classes; conflicting samples are not rare in the pooled
            features, so its scores would wreck training.

    Example:
        >>> ConflictScore().provides
        ('conflict', 'bias_group')
    """

    def __init__(
        self,
        detector: Detector | None = None,
        tap: str = "shallow",
        signal: str = "conflict",
        group_signal: str = "bias_group",
        name: str | None = None,
    ) -> None:
        super().__init__(HalfSpaceTrees() if detector is None else detector, name)
        if not self.detector.class_conditional:
            raise ValueError(
                f"ConflictScore: the detector {type(self.detector).__name__} ignores classes, and "
                "such scores find conflicting samples no better than chance; give it classes=True."
            )
        self.tap, self.signal, self.group_signal = tap, signal, group_signal
        self.taps = (tap,)
        self.provides = (signal, group_signal) if self.detector.has_posterior else (signal,)

    def on_features(self, batch: Batch) -> None:
        """Score, learn, publish."""
        features = batch.features[self.tap].detach()
        self.set_up_for(features)
        ready = self.detector.ready
        mass = batch.mass
        score, posterior = self.detector.step(features, batch.targets, mass)
        batch.publish(self.signal, torch.where(batch.mixed, 0.0, score))
        if posterior is not None:
            seen = seen_class(posterior, batch.targets, score)
            group = torch.where(batch.mixed, batch.targets, seen)
            batch.publish(self.group_signal, group if ready else batch.targets)
        if not ready:
            for signal in self.provides:
                batch.withhold(signal, torch.ones_like(batch.mixed))
        self.run.record("detect/mean_score", score.mean())

    def bias_view(self, features: Mapping[str, Tensor], inputs: Tensor) -> Tensor | None:
        """Return the class whose region each row lies in; None before the detector is ready."""
        if not (self.detector.has_posterior and self.detector.n_features and self.detector.ready):
            return None
        return self.detector.posterior(features[self.tap]).argmax(1)
