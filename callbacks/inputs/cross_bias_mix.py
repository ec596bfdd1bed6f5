"""Mix images of one class across bias values: new bias combinations, label kept."""

from __future__ import annotations

import torch

from online_debias.engine import Batch, Callback, Run, SampleMemory
from online_debias.functional.inputs.mixing import cross_bias_partners, symmetric_beta
from online_debias.functional.inputs.take_rows import take_rows


class CrossBiasMix(Callback):
    """Mixes a row with one of the same class and another pseudo bias label.

    Mixup (Zhang et al., ICLR 2018) within a class and across bias values, as LISA does with true
    groups (Yao et al., ICML 2022); here the bias value of a sample is the one it was last given by
    the biased view. Mixed rows are marked and neither scored nor learned by detectors. It rests
    where the signal is hushed.

    Signals: requires `bias_group` (argument `signal`).
    Records: `mix/share`, share of the rows that were mixed.

    Args:
        signal: name of the pseudo bias label.
        probability: chance that a row with a partner in the batch is mixed.
        concentration: whole number a of Beta(a, a), from which the mixing share is drawn.
        name: unique in a run.

    Example:
        >>> CrossBiasMix().requires
        ('bias_group',)
    """

    def __init__(
        self,
        signal: str = "bias_group",
        probability: float = 0.5,
        concentration: int = 2,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if not 0 < probability <= 1:
            raise ValueError(
                f"CrossBiasMix: probability is {probability}, expected 0 < probability <= 1."
            )
        if concentration < 1:
            raise ValueError(
                f"CrossBiasMix: concentration is {concentration}, expected a whole number >= 1."
            )
        self.requires = (signal,)
        self.signal, self.probability, self.concentration = signal, probability, concentration

    def setup(self, run: Run) -> None:
        """Make the memory of bias values."""
        self.groups = SampleMemory(run.n_samples)
        self.resting = False

    def on_batch(self, batch: Batch) -> None:
        """Mix."""
        if self.resting:
            self.run.record("mix/share", 0.0)
            return
        stream = self.run.generator(self.name)
        groups = self.groups.read(batch.index)
        partner, mixes = cross_bias_partners(batch.targets, groups, stream)
        mixes &= torch.rand(len(batch), generator=stream, device=mixes.device) < self.probability
        share = symmetric_beta(len(batch), self.concentration, stream)
        share = torch.where(mixes, share, 1.0).view(-1, *[1] * (batch.inputs.ndim - 1))
        batch.inputs = take_rows(batch.inputs, partner).lerp_(batch.inputs, share)
        batch.mixed = batch.mixed | mixes
        self.run.record("mix/share", mixes.float().mean())

    def on_features(self, batch: Batch) -> None:
        """Remember the bias values of the rows of which something is known."""
        self.resting = self.signal in batch.hushed
        self.groups.follow(batch, self.signal)
