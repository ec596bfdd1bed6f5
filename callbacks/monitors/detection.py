"""Remember what is seen of every sample, and measure how well scores find conflicting ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from online_debias.engine import Batch, Monitor, Run, SampleMemory
from online_debias.functional.losses.cross_entropy import cross_entropy
from online_debias.functional.metrics import detection


class Detection(Monitor):
    """Keeps a moving average of each training sample's score and measures it after every epoch.

    Only rows that are training images as they are count; mixed rows have no score of their own.
    Where nobody publishes the score it measures nothing; losses and draws are remembered all the
    same. A score that was retracted counts as 0, one that was withheld not at all.

    Records, at the end of an epoch: `detect/share_flagged`, share of the samples seen so far with
    a score above 1/2; `train/accuracy_pseudo_aligned` and `train/accuracy_pseudo_conflicting`,
    accuracy over the epoch's rows with a score up to 1/2, and above. With bias annotations also
    `detect/auroc` and `detect/average_precision` over all samples seen so far, and in each step
    `weights/share_conflicting`, the share of the loss weight that conflicting rows carry; a mixed
    row counts there by the annotation of its first image.

    Args:
        signal: name of the score.
        group_signal: name of the pseudo bias label, remembered if it is published.
        noise_signal: name of how likely a row is mislabelled, in [0, 1], remembered if it is
            published.
        momentum: of each sample's moving average of the score.

    Attributes:
        quality: the latest `auroc` and `average_precision`; empty without annotations.
        drawn: `[N]` int64, how many rows each sample had in training so far; mixed rows and
            varied copies count for the sample of their first image.

    Example:
        >>> from online_debias.engine.engine import Engine
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> monitor = Detection()
        >>> engine = Engine(model, monitors=[monitor], n_samples=8, n_classes=2)
        >>> monitor.scores is None  # until a callback publishes "conflict"
        True
    """

    def __init__(
        self,
        signal: str = "conflict",
        group_signal: str = "bias_group",
        noise_signal: str = "noise",
        momentum: float = 0.7,
    ) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(f"Detection: momentum is {momentum}, expected 0 <= momentum < 1.")
        self.signal, self.group_signal, self.noise_signal = signal, group_signal, noise_signal
        self.momentum = momentum
        self.quality: dict[str, float] = {}
        self.drawn = torch.zeros(0, dtype=torch.int64)
        self._memories: dict[str, SampleMemory] = {}
        self._tally = torch.zeros(2, 2)  # (rows right, rows) x (pseudo-aligned, -conflicting)

    @property
    def scores(self) -> Tensor | None:
        """`[N]`, NaN where a sample was not seen; None while nothing was scored."""
        return self._values("scores")

    @property
    def groups(self) -> Tensor | None:
        """`[N]` int64, latest pseudo bias label, -1 where not seen; None if none is published."""
        values = self._values("groups")
        return None if values is None else values.nan_to_num(-1).long()

    @property
    def losses(self) -> Tensor | None:
        """`[N]`, latest cross-entropy of the logits, NaN where not seen; None before any step."""
        return self._values("losses")

    @property
    def noise(self) -> Tensor | None:
        """`[N]` in [0, 1], latest, NaN where not seen; None if none is published."""
        return self._values("noise")

    @property
    def conflicting(self) -> Tensor | None:
        """`[N]` bool, truly conflicting, as far as seen; None without bias annotations."""
        values = self._values("conflicting")
        return None if values is None else values > 0.5

    def on_fit_start(self, run: Run) -> None:
        """Begin with empty memories, or go on with those of the checkpoint."""
        if run.step == 0:
            self._memories, self.quality, self._tally = {}, {}, torch.zeros(2, 2)
            self.drawn = torch.zeros(run.n_samples, dtype=torch.int64)
        if len(self.drawn) != run.n_samples:
            raise ValueError(
                f"The checkpoint remembers scores of {len(self.drawn)} samples, the training set "
                f"has {run.n_samples}; resume with the same data."
            )
        for memory in self._memories.values():
            memory.to(run.device)
        self._tally, self.drawn = self._tally.to(run.device), self.drawn.to(run.device)

    def on_step_end(self, batch: Batch, bias: Tensor | None, run: Run) -> None:
        """Remember what is known of the step's rows."""
        if batch.logits is None:
            return
        self.drawn.index_add_(0, batch.index, torch.ones_like(batch.index))
        plain = ~batch.mixed
        self._remember("losses", cross_entropy(batch.logits, batch.targets), plain, batch, run)
        if self.noise_signal in batch.signals:
            self._remember("noise", batch.signals[self.noise_signal], plain, batch, run)
        score = batch.signals.get(self.signal)
        if score is None:
            return
        known = batch.known(self.signal)
        self._remember("scores", score, known, batch, run)
        if self.group_signal in batch.signals:
            self._remember("groups", batch.signals[self.group_signal], known, batch, run)
        flagged = score > 0.5
        side = torch.stack([plain & ~flagged, plain & flagged])  # [2, B]
        right = side & (batch.logits.argmax(1) == batch.targets)
        self._tally += torch.stack([right.sum(1), side.sum(1)])
        if bias is not None:
            conflicting = bias != batch.targets
            self._remember("conflicting", conflicting, plain, batch, run)
            weights = torch.ones_like(score) if batch.weights is None else batch.weights
            share = (weights * conflicting).sum() / weights.sum().clamp_min(1e-12)
            run.record("weights/share_conflicting", share)

    def on_epoch_end(self, run: Run) -> None:
        """Measure; the epoch is over, so the device may be waited for."""
        if self.scores is None:
            return
        (right_aligned, right_conflicting), (aligned, conflicting) = self._tally.tolist()
        self._tally.zero_()
        if aligned:
            run.record("train/accuracy_pseudo_aligned", right_aligned / aligned)
        if conflicting:
            run.record("train/accuracy_pseudo_conflicting", right_conflicting / conflicting)
        scores = self.scores.cpu()
        known = scores[~scores.isnan()]
        if len(known):
            run.record("detect/share_flagged", float((known > 0.5).double().mean()))
        if self.conflicting is not None:
            self.quality = detection(scores, self.conflicting.cpu())
            for name, value in self.quality.items():
                run.record(f"detect/{name}", value)

    def findings(self) -> dict[str, float]:
        """Return the estimated share of bias-conflicting samples, for results.json."""
        if self.scores is None:
            return {}
        flagged, known = (self.scores > 0.5).sum(), (~self.scores.isnan()).sum()
        return {"conflicting_share": round(float(flagged / known.clamp_min(1)), 6)}

    def state_dict(self) -> dict[str, Any]:
        """What is remembered, and the epoch's tally so far."""
        memories = {name: memory.table for name, memory in self._memories.items()}
        return {
            "memories": memories,
            "tally": self._tally,
            "quality": self.quality,
            "drawn": self.drawn,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        if not state:
            return
        self._memories = {}
        for name, table in state["memories"].items():
            memory = self._new(name, len(table) - 1).to(table.device)
            memory.table.copy_(table)
            self._memories[name] = memory
        self._tally, self.quality = state["tally"].clone(), dict(state["quality"])
        self.drawn = state["drawn"].clone()

    def _remember(self, name: str, value: Tensor, keep: Tensor, batch: Batch, run: Run) -> None:
        if name not in self._memories:
            self._memories[name] = self._new(name, run.n_samples).to(run.device)
        self._memories[name].update(batch.index, value, keep)

    def _new(self, name: str, n_samples: int) -> SampleMemory:
        return SampleMemory(n_samples, self.momentum if name == "scores" else 0.0)

    def _values(self, name: str) -> Tensor | None:
        memory = self._memories.get(name)
        return None if memory is None else memory.values
