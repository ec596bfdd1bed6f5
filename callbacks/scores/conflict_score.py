"""Score how likely each row is bias-conflicting, with a streaming detector on tapped features."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from online_debias.detectors import Detector, HalfSpaceTrees
from online_debias.detectors.posterior import seen_class
from online_debias.engine import Batch, Callback, Run
from online_debias.runtime import seeds
from online_debias.views import TapView


class ConflictScore(Callback):
    """Publishes the conflict score of every row, and the class that the row looks like.

    For a detector of one's own, without a verdict whether there is a shortcut at all; that is
    `ShortcutScore`. Rows are scored first and learned after, with the mass 1 / rate, so that
    drawing conflicting samples more often does not make them common. The default tap is shallow:
    the bottleneck of a model that is being debiased stops telling which samples conflict.

    Signals: provides `conflict` in [0, 1] (argument `signal`) and, with a detector that has class
    posteriors, `bias_label`, the class whose region the row lies in (argument `label_signal`).
    Nothing is known of mixed rows, nor of any before the detector is ready.
    Records: `detect/mean_score`, the mean score of the batch.

    Args:
        detector: a class-conditional detector; half-space trees with label posteriors by default.
        tap: name of the features.
        signal: name of the published score.
        label_signal: name of the published bias label.
        name: unique in a run.

    Raises:
        ValueError: the detector ignores classes; conflicting samples are not rare in the pooled
            features, so its scores would wreck training.

    Example:
        >>> ConflictScore().provides
        ('conflict', 'bias_label')
    """

    def __init__(
        self,
        detector: Detector | None = None,
        tap: str = "shallow",
        signal: str = "conflict",
        label_signal: str = "bias_label",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        detector = HalfSpaceTrees() if detector is None else detector
        if not detector.class_conditional:
            raise ValueError(
                f"ConflictScore: the detector {type(detector).__name__} ignores classes, and "
                "such scores find conflicting samples no better than chance; give it classes=True."
            )
        self.view = TapView(detector, tap)
        self.taps = self.view.taps
        self.signal, self.label_signal = signal, label_signal
        self.provides = (signal, label_signal) if detector.has_posterior else (signal,)

    @property
    def detector(self) -> Detector:
        """What scores."""
        return self.view.detector

    def setup(self, run: Run) -> None:
        """Begin with the detector as it was given."""
        self.view.setup(run.n_classes, run.device, seeds.derive(run.seed, self.name))

    def on_features(self, batch: Batch) -> None:
        """Score, learn, publish."""
        x, ready = self.view.read(batch.features, None), self.view.ready
        assert x is not None
        score, posterior = self.view.step(x, batch.targets, batch.mass)
        known = torch.full_like(batch.mixed, ready)
        batch.publish(self.signal, score, known)
        if posterior is not None:
            batch.publish(self.label_signal, seen_class(posterior, batch.targets, score), known)
        self.run.record("detect/mean_score", score.mean())

    def predict_bias(self, features: Mapping[str, Tensor], inputs: Tensor) -> Tensor | None:
        """Return the class whose region each row lies in; None before the detector is ready."""
        return self.view.predict(features, inputs)
