"""Measure how well scores find conflicting samples, and how the model does on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from online_debias.engine import Batch, Monitor, Run, SampleMemory
from online_debias.functional.metrics import detection


class Detection(Monitor):
    """Measures, after every epoch, what the run knows of its samples (`run.samples`).

    Where nobody publishes the score, or nothing is known because no shortcut is seen, it measures
    nothing.

    Records, at the end of an epoch: `detect/share_flagged`, share of the samples known so far with
    a score above 1/2; `train/accuracy_pseudo_aligned` and `train/accuracy_pseudo_conflicting`,
    accuracy over the epoch's rows with a score up to 1/2, and above. With bias annotations also
    `detect/auroc` and `detect/average_precision` over all samples known so far, and in each step
    `weights/share_conflicting`, the share of the loss weight that conflicting rows carry; a mixed
    row counts there by the annotation of its first image.

    Args:
        signal: name of the score.
        unless: name of a score; samples that it flags count as bias-aligned.

    Example:
        >>> from online_debias.engine import Engine
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> monitor = Detection()
        >>> engine = Engine(model, monitors=[monitor], n_samples=8, n_classes=2)
        >>> monitor.conflicting is None  # no annotations were seen
        True
    """

    def __init__(self, signal: str = "conflict", unless: str | None = "noise") -> None:
        self.signal, self.unless = signal, unless
        self._annotations: SampleMemory | None = None
        self._tally = torch.zeros(2, 2)  # (rows right, rows) x (pseudo-aligned, -conflicting)

    @property
    def conflicting(self) -> Tensor | None:
        """`[N]` bool, truly conflicting, as far as seen; None without bias annotations."""
        return None if self._annotations is None else self._annotations.values > 0.5

    def on_fit_start(self, run: Run) -> None:
        """Begin with empty memories, or go on with those of the checkpoint."""
        if run.step == 0:
            self._annotations, self._tally = None, torch.zeros(2, 2)
        if self._annotations is not None:
            self._annotations.to(run.device)
        self._tally = self._tally.to(run.device)

    def on_step_end(self, batch: Batch, bias: Tensor | None, run: Run) -> None:
        """Count the step's rows."""
        score = batch.signals.get(self.signal)
        if batch.logits is None or score is None:
            return
        plain = ~batch.mixed
        flagged = (score > 0.5) & ~run.samples.flagged(self.unless, batch.index)
        side = torch.stack([plain & ~flagged, plain & flagged])  # [2, B]
        right = side & (batch.logits.argmax(1) == batch.targets)
        self._tally += torch.stack([right.sum(1), side.sum(1)])
        if bias is not None:
            conflicting = bias != batch.targets
            if self._annotations is None:
                self._annotations = SampleMemory(run.n_samples).to(run.device)
            self._annotations.update(batch.index, conflicting, plain)
            weights = torch.ones_like(score) if batch.weights is None else batch.weights
            share = (weights * conflicting).sum() / weights.sum().clamp_min(1e-12)
            run.record("weights/share_conflicting", share)

    def on_epoch_end(self, run: Run) -> None:
        """Measure; the epoch is over, so the device may be waited for."""
        (right_aligned, right_conflicting), (aligned, conflicting) = self._tally.tolist()
        self._tally.zero_()
        scores = run.samples.values(self.signal, self.unless).cpu()
        known = scores[~scores.isnan()]
        if not len(known):
            return
        if aligned:
            run.record("train/accuracy_pseudo_aligned", right_aligned / aligned)
        if conflicting:
            run.record("train/accuracy_pseudo_conflicting", right_conflicting / conflicting)
        run.record("detect/share_flagged", float((known > 0.5).double().mean()))
        if self.conflicting is not None:
            for name, value in detection(scores, self.conflicting.cpu()).items():
                run.record(f"detect/{name}", value)

    def state_dict(self) -> dict[str, Any]:
        """The annotations seen, and the epoch's tally so far."""
        annotations = None if self._annotations is None else self._annotations.table
        return {"annotations": annotations, "tally": self._tally}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        if not state:
            return
        self._annotations = None
        if (table := state["annotations"]) is not None:
            self._annotations = SampleMemory(len(table) - 1).to(table.device)
            self._annotations.table.copy_(table)
        self._tally = state["tally"].clone()
