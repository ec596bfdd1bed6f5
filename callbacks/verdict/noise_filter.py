"""Tell mislabelled images from bias-conflicting ones, and take the scores of the former back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from online_debias.engine import Batch, Callback, Run, SampleMemory
from online_debias.functional.scores.doubt import doubt
from online_debias.functional.scores.two_groups import two_groups


class NoiseFilter(Callback):
    """Finds labels that the model never takes up, and keeps such rows from being drawn more.

    To a biased view a mislabelled image looks like a bias-conflicting one. To the model that is
    being debiased it does not: what it learns from some conflicting images holds for the others,
    so it soon sides with their labels, while a wrong label fits nothing and can only be learned by
    heart. The margin by which a model prefers another class to the label, averaged over training,
    finds wrong labels (Pleiss et al., "Identifying Mislabeled Data using the Area Under the Margin
    Ranking", NeurIPS 2020). Here it is a moving average of `functional.doubt`, over the rows that
    contradict the view (a score above 1/2), and the other class is the one that the view sees.

    After every epoch these doubts are parted in two (`functional.two_groups`). If that explains
    enough of their spread, the upper group is suspected: its rows count as bias-aligned, so that
    they are drawn, mixed and compared like any other and the model learns no more of them. A row
    that the model sides with after all is freed again. If not, the model is still learning what
    conflicts, and nobody is suspected: to take a conflicting image that is hard for a wrong label
    would keep it from ever being learned.

    Signals: refines `conflict` and `bias_group` (arguments `signal`, `group_signal`); provides
    `noise`, in [0, 1], 0 before the first epoch that counts (argument `noise_signal`) and where the
    score is hushed.
    Records: `noise/share`, share of the rows that are suspected; `noise/separation`, share of the
    doubts' variance that two groups explain.

    Args:
        separation: least share of the variance that the two groups must explain, in (0, 1); values
            spread evenly have .75.
        momentum: of each sample's moving average of the doubt.
        warmup: epochs, since the scores are no longer withheld, before anything is suspected; a
            model that still follows the bias doubts conflicting images as well. Doubts are
            remembered from the last of them on.
        signal: name of the score.
        group_signal: name of the bias value that the view sees.
        noise_signal: name of the published doubt.
        name: unique in a run.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> NoiseFilter().provides
        ('noise',)
    """

    threshold: Tensor
    silent: Tensor

    def __init__(
        self,
        separation: float = 0.8,
        momentum: float = 0.7,
        warmup: int = 4,
        signal: str = "conflict",
        group_signal: str = "bias_group",
        noise_signal: str = "noise",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if not 0 < separation < 1:
            raise ValueError(
                f"NoiseFilter: separation is {separation}, expected a number between 0 and 1."
            )
        if not 0 <= momentum < 1:
            raise ValueError(f"NoiseFilter: momentum is {momentum}, expected 0 <= momentum < 1.")
        if warmup < 1:
            raise ValueError(f"NoiseFilter: warmup is {warmup}, expected at least 1 epoch.")
        self.refines, self.provides = (signal, group_signal), (noise_signal,)
        self.separation, self.momentum, self.warmup = separation, momentum, warmup
        self.noise_signal = noise_signal

    def setup(self, run: Run) -> None:
        """Begin without doubts."""
        self.doubts = SampleMemory(run.n_samples, self.momentum)
        self.register_buffer("threshold", torch.tensor(torch.inf))
        self.register_buffer("silent", torch.tensor(False))
        self.heard = 0  # epochs since the scores were last withheld

    def on_features(self, batch: Batch) -> None:
        """Remember doubts; take back the scores of suspected rows."""
        assert batch.logits is not None
        if self.refines[0] in batch.hushed:
            self.silent.fill_(True)
            batch.publish(self.noise_signal, torch.zeros_like(batch.published[self.refines[0]]))
            self.run.record("noise/share", 0.0)
            return
        score, seen = (batch.published[signal] for signal in self.refines)
        self.silent.copy_(batch.silent(self.refines[0]))
        if self.heard + 1 >= self.warmup:
            found = doubt(batch.logits.detach(), batch.targets, seen)
            self.doubts.update(batch.index, found, (score > 0.5) & ~batch.mixed)
        noise = self.doubts.read(batch.index).nan_to_num(0.0)
        batch.publish(self.noise_signal, noise)
        suspected = noise > self.threshold
        for signal in self.refines:
            batch.retract(signal, suspected)
        self.run.record("noise/share", suspected.float().mean())

    def on_epoch_end(self, run: Run) -> None:
        """Part the doubts, if they can be parted; here the host may wait."""
        if bool(self.silent):
            self.heard = 0
            self.threshold.fill_(torch.inf)
            return
        self.heard += 1
        if self.heard < self.warmup:
            return
        threshold, share = two_groups(self.doubts.values)
        apart = share >= self.separation
        self.threshold.copy_(torch.where(apart, threshold.clamp_min(0.5), torch.inf))
        run.record("noise/separation", share)

    def findings(self) -> dict[str, float | str]:
        """Return how many samples are suspected to be mislabelled, for results.json."""
        if self.heard < self.warmup:
            return {}
        return {"suspected_noise": int((self.doubts.values > self.threshold).sum())}

    def get_extra_state(self) -> dict[str, int]:
        """Return how many epochs the scores were heard."""
        return {"heard": self.heard}

    def set_extra_state(self, state: Mapping[str, int]) -> None:
        """Take it back."""
        self.heard = state["heard"]
