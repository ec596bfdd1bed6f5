"""Mix images of one class across bias values: new bias combinations, label kept."""

from __future__ import annotations

import torch

from online_debias.engine import Batch, Callback
from online_debias.functional.inputs.mixing import cross_bias_partners, symmetric_beta
from online_debias.functional.inputs.take_rows import take_rows


class CrossBiasMix(Callback):
    """Mixes a row with one of the same class and another pseudo bias label.

    Mixup (Zhang et al., ICLR 2018) within a class and across bias values, as LISA does with true
    groups (Yao et al., ICML 2022); here the bias label of a sample is the one it was last given by
    the biased view (`run.samples`). Mixed rows are marked and neither scored nor learned by
    detectors. It rests once the verdict is that there is no shortcut.

    Signals: requires `bias_label` (argument `signal`); leaves out what `noise` flags, if that is
    published (argument `unless`).
    Records: `mix/share`, share of the rows that were mixed.

    Args:
        signal: name of the pseudo bias label.
        unless: name of a score; samples that it flags count as bias-aligned.
        probability: chance that a row with a partner in the batch is mixed.
        concentration: whole number a of Beta(a, a), from which the mixing share is drawn.
        name: unique in a run.

    Example:
        >>> CrossBiasMix().requires
        ('bias_label',)
    """

    input_turn = "mix"

    def __init__(
        self,
        signal: str = "bias_label",
        probability: float = 0.5,
        concentration: int = 2,
        unless: str | None = "noise",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.expect("probability", probability, 0 < probability <= 1, "0 < probability <= 1")
        self.expect("concentration", concentration, concentration >= 1, "a whole number >= 1")
        self.requires, self.optional = (signal,), (unless,) if unless else ()
        self.signal, self.unless = signal, unless
        self.probability, self.concentration = probability, concentration

    def on_batch(self, batch: Batch) -> None:
        """Mix."""
        if self.run.shortcut.rests(self.signal):
            self.run.record("mix/share", 0.0)
            return
        stream = self.run.generator(self.name)
        labels = self.run.samples.read(self.signal, batch.index, self.unless)
        partner, mixes = cross_bias_partners(batch.targets, labels, stream)
        mixes &= torch.rand(len(batch), generator=stream, device=mixes.device) < self.probability
        share = symmetric_beta(len(batch), self.concentration, stream)
        share = torch.where(mixes, share, 1.0).view(-1, *[1] * (batch.inputs.ndim - 1))
        batch.inputs = take_rows(batch.inputs, partner).lerp_(batch.inputs, share)
        batch.mixed = batch.mixed | mixes
        self.run.record("mix/share", mixes.float().mean())
