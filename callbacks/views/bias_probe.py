"""A small head that learns the bias: generalised cross-entropy on shallow, detached features."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from online_debias.detectors import conflict
from online_debias.engine import Batch, Callback, Run
from online_debias.functional.losses.gce import generalized_cross_entropy
from online_debias.functional.scores.standardize import Moments, follow, standardize
from online_debias.functional.weights.mass_mean import mass_mean

_LEARNING_STEPS = 10  # in which the head's opinion is close to its random start
_RETENTION = 0.9  # of the features' mean and deviation, each step


class BiasProbe(Callback):
    """Predicts the class from shallow features with a head that prefers what is easy, the bias.

    The biased network of Learning from Failure (Nam et al., NeurIPS 2020), shrunk to a head on the
    features of the model that is being debiased: generalised cross-entropy (Zhang and Sabuncu,
    NeurIPS 2018) makes it keep to the shortcut. The features are detached, so that it teaches the
    model nothing, and standardised by moving moments. Rows count 1 / rate in what it learns, so
    that drawing conflicting samples more often does not debias it; mixed rows do not count.

    Signals: provides `bias_logits` (argument `logits_signal`), `bias_label`, the class the head
    predicts (argument `label_signal`), and `conflict`, 1 - p(target) / max p (argument `signal`).
    Nothing is known of mixed rows, nor of any in the first ten steps: their score is 0, their bias
    label the target.
    Records: `terms/bias_probe`, the head's loss; `detect/mean_score`, the mean score of the batch.

    Args:
        tap: name of the features.
        hidden: width of the head's hidden layer; 0 is a linear head.
        q: of the generalised cross-entropy, in (0, 1]; larger keeps more to what is easy.
        logits_signal: name of the head's logits.
        label_signal: name of the bias label; None does not publish it.
        signal: name of the score; None does not publish it.
        name: unique in a run.

    Raises:
        ValueError: `hidden` or `q` is out of range.

    Example:
        >>> BiasProbe(hidden=0, signal=None).provides
        ('bias_logits', 'bias_label')
    """

    mean: Tensor
    square: Tensor
    total: Tensor

    def __init__(
        self,
        tap: str = "shallow",
        hidden: int = 64,
        q: float = 0.7,
        logits_signal: str = "bias_logits",
        label_signal: str | None = "bias_label",
        signal: str | None = "conflict",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.expect("hidden", hidden, hidden >= 0, "a whole number >= 0")
        self.expect("q", q, 0 < q <= 1, "0 < q <= 1")
        self.tap, self.hidden, self.q = tap, hidden, q
        self.logits_signal, self.label_signal, self.signal = logits_signal, label_signal, signal
        self.taps = (tap,)
        self.provides = (logits_signal, *(given for given in (label_signal, signal) if given))

    def setup(self, run: Run) -> None:
        """Make the head and the moments of its features."""
        width = run.width(self.tap)
        self.head = (
            nn.Sequential(
                nn.Linear(width, self.hidden), nn.ReLU(), nn.Linear(self.hidden, run.n_classes)
            )
            if self.hidden
            else nn.Linear(width, run.n_classes)
        )
        for name, shape in (("mean", (width,)), ("square", (width,)), ("total", ())):
            self.register_buffer(name, torch.zeros(shape))

    def on_features(self, batch: Batch) -> None:
        """Score, learn, publish."""
        features = batch.features[self.tap].detach()
        mass = batch.mass
        logits = self.head(self._standardized(features, mass))
        losses = generalized_cross_entropy(logits, batch.targets, self.q)
        batch.add_loss(self.name, mass_mean(losses, mass))

        posterior = logits.detach().softmax(1)
        known = torch.full_like(batch.mixed, self.run.step >= _LEARNING_STEPS)
        batch.publish(self.logits_signal, logits)
        if self.label_signal:
            batch.publish(self.label_signal, posterior.argmax(1), known)
        if self.signal:
            batch.publish(self.signal, conflict(posterior, batch.targets), known)
            self.run.record("detect/mean_score", batch.signals[self.signal].mean())

    def predict_bias(self, features: Mapping[str, Tensor], inputs: Tensor) -> Tensor | None:
        """Return the class the head predicts; None in the first ten steps."""
        if self.run.step < _LEARNING_STEPS:
            return None
        moments = Moments(self.mean, self.square, self.total)
        logits: Tensor = self.head(standardize(features[self.tap], moments))
        return logits.argmax(1)

    def _standardized(self, features: Tensor, mass: Tensor) -> Tensor:
        moments = follow(Moments(self.mean, self.square, self.total), features, mass, _RETENTION)
        for name, value in moments._asdict().items():
            getattr(self, name).copy_(value)
        return standardize(features, moments)
