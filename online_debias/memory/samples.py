"""What is known of every training sample: one memory, for who acts, who watches and scores.csv."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from online_debias.functional.losses.cross_entropy import cross_entropy
from online_debias.memory.former_names import current_name
from online_debias.memory.sample_memory import SampleMemory
from online_debias.memory.shortcut import Shortcut

MOMENTUM = 0.7  # of each sample's moving average of a score


class Samples:
    """Remembers each signal of one number a row, sample by sample, in the rows that it is known of.

    Of scores it keeps a moving average, of labels the latest. What the verdict holds back
    (`Shortcut.signals`) is not known of any sample while no shortcut is seen. Readers combine:
    `unless="noise"` leaves out samples whose label looks wrong.

    Attributes:
        targets: `[N]` int64, the class of each sample, as far as seen; else 0.
        drawn: `[N]` int64, how many rows each sample had in training so far; mixed rows and varied
            copies count for the sample of their first image. Like losses, it is kept for monitors
            and files: an engine without a monitor saves itself the work.
        thresholds: by score, a 0-dim tensor above which a sample is flagged; 1/2 if its writer
            says nothing else.

    Args:
        n_samples: length of the training set.
        device: where the memory lives.
        shortcut: the verdict.

    Example:
        >>> samples = Samples(3, torch.device("cpu"), Shortcut(torch.device("cpu")))
        >>> "conflict" in samples  # until a callback publishes it
        False
        >>> samples.flagged("conflict")
        tensor([False, False, False])
    """

    def __init__(self, n_samples: int, device: torch.device, shortcut: Shortcut) -> None:
        self.n_samples, self._device, self._shortcut = n_samples, device, shortcut
        self.targets = torch.zeros(n_samples, dtype=torch.int64, device=device)
        self.drawn = torch.zeros(n_samples, dtype=torch.int64, device=device)
        self.thresholds: dict[str, Tensor] = {}
        self._losses = SampleMemory(n_samples).to(device)
        self._memories: dict[str, SampleMemory] = {}

    def __contains__(self, signal: object) -> bool:
        """Whether the signal was ever published."""
        return isinstance(signal, str) and current_name(signal) in self._memories

    @property
    def losses(self) -> Tensor:
        """`[N]`, the latest cross-entropy of each sample's own logits; NaN where not seen."""
        return self._losses.values

    def values(self, signal: str, unless: str | None = None) -> Tensor:
        """`[N]` float, what a signal says of each sample; NaN where that is not known.

        Args:
            signal: its name.
            unless: a score; samples that it flags count as bias-aligned: their score is 0, their
                bias label the target.
        """
        return self._read(signal, unless, None)

    def read(self, signal: str, index: Tensor, unless: str | None = None) -> Tensor:
        """`[B]`, the `values` of the samples `index` `[B]`."""
        return self._read(signal, unless, index)

    def flagged(self, signal: str | None, index: Tensor | None = None) -> Tensor:
        """`[N]` or `[B]` bool, whether a score is above its threshold; False where not known."""
        threshold = self.thresholds.get(current_name(signal or ""))
        return self._read(signal, None, index) > (0.5 if threshold is None else threshold)

    def remember(
        self,
        index: Tensor,
        targets: Tensor,
        signals: Mapping[str, Tensor],
        known: Mapping[str, Tensor],
    ) -> None:
        """Keep what the signals say of the rows of a step.

        Args:
            index: the samples, `[B]` int64; repeats allowed.
            targets: their classes, `[B]` int64.
            signals: by name; those of one number a row are kept.
            known: by name, `[B]` bool, rows of which the signal says something.
        """
        self.targets.index_copy_(0, index, targets)
        for name, value in signals.items():
            if value.ndim == 1:
                memory = self._memory(name, value.is_floating_point())
                memory.update(index, value, known[name])

    def count(self, index: Tensor, targets: Tensor, logits: Tensor, plain: Tensor) -> None:
        """Count the rows of a step, and keep their losses.

        Args:
            index: the samples, `[B]` int64; repeats allowed.
            targets: their classes, `[B]` int64.
            logits: the model's, `[B, C]`.
            plain: `[B]` bool, training images as they are.
        """
        self.drawn.index_add_(0, index, torch.ones_like(index))
        self._losses.update(index, cross_entropy(logits, targets), plain)

    def tensors(self) -> list[Tensor]:
        """Return what the memory consists of."""
        kept = [self._losses, *self._memories.values()]
        return [self.targets, self.drawn, *(memory.table for memory in kept)]

    def state_dict(self) -> dict[str, Any]:
        """All that is remembered."""
        return {
            "targets": self.targets,
            "drawn": self.drawn,
            "losses": self._losses.table,
            "thresholds": dict(self.thresholds),
            "scores": {name: m.table for name, m in self._memories.items() if m.momentum},
            "labels": {name: m.table for name, m in self._memories.items() if not m.momentum},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned.

        Raises:
            ValueError: it is of a training set of another length.
        """
        if len(state["drawn"]) != self.n_samples:
            raise ValueError(
                f"The checkpoint is of {len(state['drawn'])} training samples, the training set "
                f"has {self.n_samples}; resume with the same data."
            )
        self.targets.copy_(state["targets"])
        self.drawn.copy_(state["drawn"])
        self._losses.table.copy_(state["losses"])
        self.thresholds = {name: x.to(self._device) for name, x in state["thresholds"].items()}
        self._memories = {}
        for kind in ("scores", "labels"):
            for name, table in state[kind].items():
                self._memory(name, kind == "scores").table.copy_(table)

    def _memory(self, signal: str, is_score: bool) -> SampleMemory:
        if signal not in self._memories:
            memory = SampleMemory(self.n_samples, MOMENTUM if is_score else 0.0)
            self._memories[signal] = memory.to(self._device)
        return self._memories[signal]

    def _read(self, signal: str | None, unless: str | None, index: Tensor | None) -> Tensor:
        signal = current_name(signal or "")
        memory = self._memories.get(signal)
        if memory is None:
            n = self.n_samples if index is None else len(index)
            return torch.full((n,), torch.nan, device=self._device)
        value = memory.values.clone() if index is None else memory.read(index)
        if unless in self:
            targets = self.targets if index is None else self.targets[index]
            aligned = torch.zeros_like(value) if memory.momentum else targets.to(value.dtype)
            dismissed = self.flagged(unless, index) & ~value.isnan()
            value = torch.where(dismissed, aligned, value)
        if signal in self._shortcut.signals:
            value = value.masked_fill(~self._shortcut.seen, torch.nan)
        return value
