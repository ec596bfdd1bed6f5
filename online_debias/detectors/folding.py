"""Detectors that learn in windows: open sums, which a fold turns into what scores are read from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from online_debias.detectors.detector import Detector
from online_debias.errors import expect


class Folding(Detector):
    """Counts rows, and folds at the end of the batch that completes a window.

    The first windows are short, for an early start: a quarter of `fold` twice, half of it, then
    `fold` rows. Rows are counted by shape, whatever their mass, so that the host always knows when
    to fold. Between folds a score is a pure function. Whoever derives from this says how rows are
    read (`_read`), judged (`_judge`) and added to the open sums (`_observe`), and how these are
    taken over (`_close`).

    Attributes:
        rows: rows since the last fold.
        folds: folds done.

    Args:
        fold: rows a window.
        retention: what past windows count for after a fold, in [0, 1).

    Raises:
        ValueError: if a setting is out of range.
    """

    def __init__(self, fold: int, retention: float) -> None:
        super().__init__()
        expect(self, "fold", fold, fold >= 1, "at least 1")
        expect(self, "retention", retention, 0 <= retention < 1, "0 <= retention < 1")
        self.window, self.retention = fold, retention
        self.rows = self.folds = 0

    def setup(self, n_features: int, n_classes: int, device: torch.device | str, seed: int) -> None:
        """Begin with nothing learned; see `Detector.setup`."""
        super().setup(n_features, n_classes, device, seed)
        self.rows = self.folds = 0

    @property
    def ready(self) -> bool:
        """Whether a score can differ from 0: known from the number of rows alone."""
        return self.folds > 0

    @torch.no_grad()
    def score(self, x: Tensor, targets: Tensor) -> Tensor:
        """Return `[B]` float32 in [0, 1], high = bias-conflicting; see `Detector.score`."""
        self._check(x, targets)
        with self._single():
            return self._judge(self._read(x.float()), targets)[0]

    @torch.no_grad()
    def learn(self, x: Tensor, targets: Tensor, mass: Tensor) -> None:
        """Add a batch to the open sums; see `Detector.learn`."""
        self._check(x, targets, mass)
        with self._single():
            self._learn(self._read(x.float()), targets, mass.float())

    @torch.no_grad()
    def step(self, x: Tensor, targets: Tensor, mass: Tensor) -> tuple[Tensor, Tensor | None]:
        """Score a batch, then learn it, reading it once; see `Detector.step`."""
        self._check(x, targets, mass)
        with self._single():
            read = self._read(x.float())
            judged = self._judge(read, targets)
            self._learn(read, targets, mass.float())
        return judged

    def get_extra_state(self) -> dict[str, int]:
        """Return the counters."""
        return {"rows": self.rows, "folds": self.folds}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Take back the counters."""
        self.rows, self.folds = state["rows"], state["folds"]

    def _learn(self, read: Any, targets: Tensor, mass: Tensor) -> None:
        self._observe(read, targets, mass)
        self.rows += len(targets)
        if self.rows >= max(1, self.window >> max(0, min(2, 3 - self.folds))):
            self._close()
            self.rows, self.folds = 0, self.folds + 1

    def _read(self, x: Tensor) -> Any:
        """What `_judge` and `_observe` need of rows `[B, D]`, worked out once a step."""
        return x

    def _judge(self, read: Any, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores `[B]` float32, and p(class | features) `[B, C]` if there is one."""
        raise NotImplementedError

    def _observe(self, read: Any, targets: Tensor, mass: Tensor) -> None:
        """Add rows to the open sums."""
        raise NotImplementedError

    def _close(self) -> None:
        """Let later scores see the open sums, and open new ones."""
        raise NotImplementedError

    def _single(self) -> torch.autocast:
        """Sums and distances stay in float32, also where the model runs under autocast."""
        return torch.autocast(next(self.buffers()).device.type, enabled=False)
