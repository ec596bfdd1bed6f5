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

    Signals: provides `bias_logits` (argument `logits_signal`), `bias_group`, the class the head
    predicts (argument `group_signal`), and `conflict`, 1 - p(target) / max p (argument `signal`).
    Mixed rows, and all rows in the first ten steps, are published as not conflicting: score 0, the
    target as bias value; the latter are withheld, so that nobody remembers them.
    Records: `terms/bias_probe`, the head's loss; `detect/mean_score`, the mean score of the batch.

    Args:
        tap: name of the features.
        hidden: width of the head's hidden layer; 0 is a linear head.
        q: of the generalised cross-entropy, in (0, 1]; larger keeps more to what is easy.
        logits_signal: name of the head's logits.
        group_signal: name of the bias value; None does not publish it.
        signal: name of the score; None does not publish it.
        name: unique in a run.

    Raises:
        ValueError: `hidden` or `q` is out of range.

    Example:
        >>> BiasProbe(hidden=0, signal=None).provides
        ('bias_logits', 'bias_group')
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
        group_signal: str | None = "bias_group",
        signal: str | None = "conflict",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if hidden < 0:
            raise ValueError(f"BiasProbe: hidden is {hidden}, expected a whole number >= 0.")
        if not 0 < q <= 1:
            raise ValueError(f"BiasProbe: q is {q}, expected 0 < q <= 1.")
        self.tap, self.hidden, self.q = tap, hidden, q
        self.logits_signal, self.group_signal, self.signal = logits_signal, group_signal, signal
        self.taps = (tap,)
        self.provides = (logits_signal, *(given for given in (group_signal, signal) if given))

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
        agrees = batch.mixed | (self.run.step < _LEARNING_STEPS)
        batch.publish(self.logits_signal, logits)
        if self.group_signal:
            group = torch.where(agrees, batch.targets, posterior.argmax(1))
            batch.publish(self.group_signal, group)
        if self.signal:
            score = conflict(posterior, batch.targets).masked_fill(agrees, 0)
            batch.publish(self.signal, score)
            self.run.record("detect/mean_score", score.mean())
        if self.run.step < _LEARNING_STEPS:
            for signal in self.provides[1:]:
                batch.withhold(signal, torch.ones_like(batch.mixed))

    def bias_view(self, features: Mapping[str, Tensor], inputs: Tensor) -> Tensor | None:
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
