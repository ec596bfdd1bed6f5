"""Score how likely a row is mislabelled: a biased view alone would call it bias-conflicting."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from online_debias.engine import Batch, Callback, Run
from online_debias.functional.scores.doubt import doubt
from online_debias.functional.scores.two_groups import two_groups


class NoiseScore(Callback):
    """Finds labels that the model never takes up.

    To a biased view a mislabelled image looks like a bias-conflicting one. To the model that is
    being debiased it does not: what it learns from some conflicting images holds for the others,
    so it soon sides with their labels, while a wrong label fits nothing and can only be learned by
    heart. The margin by which a model prefers another class to the label, averaged over training,
    finds wrong labels (Pleiss et al., "Identifying Mislabeled Data using the Area Under the Margin
    Ranking", NeurIPS 2020). Here it is a moving average of `functional.scores.doubt`, over the rows
    that contradict the view (a score above 1/2), and the other class is the one that the view sees.

    After every epoch these doubts are parted in two (`functional.scores.two_groups`). If that
    explains enough of their spread, the upper group is flagged (`run.samples.flagged`). Callbacks
    with `unless="noise"` (Resample, Reweight, CrossBiasMix, EnD, Copies, GroupWeights) then treat
    its samples as bias-aligned, so the model learns no more of them than of any other. A sample
    that the model sides with after all is freed again. If not, the model is still learning what
    conflicts, and nothing is flagged: to take a conflicting image that is hard for a wrong label
    would keep it from ever being learned.

    Signals: requires `conflict` and `bias_label` (arguments `signal`, `label_signal`); provides
    `noise`, the doubt, in [0, 1] (argument `noise_signal`), known of the rows that contradict the
    view, from the last epoch of the warm-up on.
    Records: `noise/share`, share of the rows that are flagged; `noise/separation`, share of the
    doubts' variance that two groups explain.

    Args:
        separation: least share of the variance that the two groups must explain, in (0, 1); values
            spread evenly have .75.
        warmup: epochs, since a shortcut was seen, before anything is flagged; a model that still
            follows the bias doubts conflicting images as well.
        signal: name of the score.
        label_signal: name of the class that the view sees.
        noise_signal: name of the published doubt.
        name: unique in a run.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> NoiseScore().provides
        ('noise',)
    """

    def __init__(
        self,
        separation: float = 0.8,
        warmup: int = 4,
        signal: str = "conflict",
        label_signal: str = "bias_label",
        noise_signal: str = "noise",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.expect("separation", separation, 0 < separation < 1, "a number between 0 and 1")
        self.expect("warmup", warmup, warmup >= 1, "at least 1 epoch")
        self.requires, self.provides = (signal, label_signal), (noise_signal,)
        self.separation, self.warmup, self.noise_signal = separation, warmup, noise_signal

    def setup(self, run: Run) -> None:
        """Begin with nothing flagged."""
        run.shortcut.extend(self.provides, made_of=self.requires)
        self.epochs = 0  # that ended with a shortcut seen, since the last that did not
        self._flag_above(run, torch.tensor(torch.inf))

    def on_features(self, batch: Batch) -> None:
        """Publish the doubts of the rows that contradict the view."""
        score, label = (batch.signals[signal] for signal in self.requires)
        if self.run.shortcut.rests(self.requires[0]) or self.epochs + 1 < self.warmup:
            batch.publish(self.noise_signal, torch.zeros_like(score), score > 1)  # of no row
            return
        assert batch.logits is not None
        doubts = doubt(batch.logits.detach(), batch.targets, label)
        batch.publish(self.noise_signal, doubts, score > 0.5)

    def on_step_end(self, batch: Batch) -> None:
        """Record."""
        flagged = self.run.samples.flagged(self.noise_signal, batch.index)
        self.run.record("noise/share", flagged.float().mean())

    def on_epoch_end(self, run: Run) -> None:
        """Part the doubts, if they can be parted; here the host may wait."""
        if not bool(run.shortcut.counts(self.requires[0])):
            self.epochs = 0
            self._flag_above(run, torch.tensor(torch.inf))
            return
        self.epochs += 1
        if self.epochs < self.warmup:
            return
        threshold, share = two_groups(run.samples.values(self.noise_signal))
        apart = share >= self.separation
        self._flag_above(run, torch.where(apart, threshold.clamp_min(0.5), torch.inf))
        run.record("noise/separation", share)

    def findings(self) -> dict[str, float | str]:
        """Return how many samples are flagged as mislabelled, for results.json."""
        if self.epochs < self.warmup:
            return {}
        return {"suspected_noise": int(self.run.samples.flagged(self.noise_signal).sum())}

    def _flag_above(self, run: Run, threshold: torch.Tensor) -> None:
        run.samples.thresholds[self.noise_signal] = threshold.to(run.device)

    def get_extra_state(self) -> dict[str, int]:
        """Return how many epochs a shortcut was seen."""
        return {"epochs": self.epochs}

    def set_extra_state(self, state: Mapping[str, int]) -> None:
        """Take it back."""
        self.epochs = state["epochs"]
