"""LearnedMixin: an ensemble with the biased view in training, the model alone afterwards."""

from __future__ import annotations

import torch
from torch import nn

from online_debias.engine import Batch, Callback, Run
from online_debias.functional.logits.learned_mixin import mixin, softmax_entropy
from online_debias.functional.weights.mass_mean import mass_mean


class LearnedMixin(Callback):
    """Adds softplus(g(z)) * log p_bias to the logits that the criterion sees.

    LearnedMixin+H (Clark, Yatskar, Zettlemoyer, EMNLP 2019): model and biased view predict
    together, so the model need not learn what the biased view knows. How far each row trusts the
    biased view is learned, by a linear map g of the features, and through it by the features
    themselves. Left alone, g learns to distrust it; the entropy of the biased part, added to the
    loss, keeps it in play. Mixed rows are shifted too, but g learns nothing from them.

    Signals: requires `bias_logits` (argument `signal`).
    Records: `terms/learned_mixin`, the weighted entropy; `mixin/trust`, the mean of softplus(g(z)).

    Args:
        entropy: weight of that entropy; 0 is LearnedMixin without +H.
        signal: name of the biased view's logits.
        tap: name of the features.
        name: unique in a run.

    Raises:
        ValueError: `entropy` is negative.

    Example:
        >>> LearnedMixin(entropy=0.0).requires
        ('bias_logits',)
    """

    def __init__(
        self,
        entropy: float = 0.36,
        signal: str = "bias_logits",
        tap: str = "bottleneck",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.expect("entropy", entropy, entropy >= 0, "a number >= 0")
        self.requires, self.taps = (signal,), (tap,)
        self.entropy, self.signal, self.tap = entropy, signal, tap

    def setup(self, run: Run) -> None:
        """Make the map from features to trust."""
        self.gate = nn.Linear(run.width(self.tap), 1)

    def on_features(self, batch: Batch) -> None:
        """Shift the logits by the biased part, and keep that part sure of itself."""
        gate = self.gate(batch.features[self.tap]).squeeze(1)
        gate = torch.where(batch.mixed, gate.detach(), gate)
        biased = mixin(gate, batch.signals[self.signal])
        batch.shift_logits(self.name, biased)
        if self.entropy:
            mean = mass_mean(softmax_entropy(biased), (~batch.mixed).float())
            batch.add_loss(self.name, self.entropy * mean)
        self.run.record("mixin/trust", nn.functional.softplus(gate.detach()).mean())
