"""Detectors that learn in windows: open sums, which a fold turns into what scores are read from."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from online_debias.detectors.detector import Detector


class Folding(Detector):
    """Counts rows, and folds at the end of the batch that completes a window.

    The first windows are short, for an early start: a quarter of `fold` twice, half of it, then
    `fold` rows. Rows are counted by shape, whatever their mass, so that the host always knows when
    to fold. Between folds a score is a pure function. Whoever derives from this says how rows are
    judged (`_judge`), added to the open sums (`_observe`) and taken over (`_close`).

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
        self._refuse("fold", fold, fold >= 1, "at least 1")
        self._refuse("retention", retention, 0 <= retention < 1, "0 <= retention < 1")
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

    @property
    def due(self) -> bool:
        """Whether the window is complete."""
        return self.rows >= max(1, self.window >> max(0, min(2, 3 - self.folds)))

    @torch.no_grad()
    def score(self, x: Tensor, targets: Tensor) -> Tensor:
        """Return `[B]` float32 in [0, 1], high = bias-conflicting; see `Detector.score`."""
        self._check(x, targets)
        with self._single():
            return self._judge(x.float(), targets)[0]

    @torch.no_grad()
    def learn(self, x: Tensor, targets: Tensor, mass: Tensor, rows: int | None = None) -> None:
        """Add a batch to the open sums; see `Detector.learn`."""
        self._check(x, targets, mass)
        with self._single():
            self._observe(x.float(), targets, mass.float())
        self.rows += len(x) if rows is None else rows
        if rows is None and self.due:
            self.fold()

    @torch.no_grad()
    def step(
        self, x: Tensor, targets: Tensor, mass: Tensor, rows: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Score a batch, then learn it; see `Detector.step`."""
        self._check(x, targets, mass)
        with self._single():
            judged = self._judge(x.float(), targets)
        self.learn(x, targets, mass, rows)
        return judged

    @torch.no_grad()
    def fold(self, statistics: Mapping[str, Tensor] | None = None) -> None:
        """Let later scores see the open sums, and open new ones; see `Detector.fold`."""
        for name, value in (statistics or {}).items():
            self.additive()[name].copy_(value)
        with self._single():
            self._close()
        for value in self.additive().values():
            value.zero_()
        self.rows, self.folds = 0, self.folds + 1

    def get_extra_state(self) -> dict[str, int]:
        """Return the counters."""
        return {"rows": self.rows, "folds": self.folds}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Take back the counters."""
        self.rows, self.folds = state["rows"], state["folds"]

    def _judge(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        raise NotImplementedError

    def _observe(self, x: Tensor, targets: Tensor, mass: Tensor) -> None:
        raise NotImplementedError

    def _close(self) -> None:
        raise NotImplementedError

    def _single(self) -> torch.autocast:
        """Sums and distances stay in float32, also where the model runs under autocast."""
        return torch.autocast(next(self.buffers()).device.type, enabled=False)

    def _refuse(self, name: str, value: object, valid: bool, expected: str) -> None:
        if not valid:
            raise ValueError(f"{type(self).__name__}: {name} is {value!r}, expected {expected}.")
