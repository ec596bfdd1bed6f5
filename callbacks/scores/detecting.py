"""What callbacks share that have a detector: its set-up, and what it says in signals."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from online_debias.detectors import Detector
from online_debias.detectors.posterior import likely_class
from online_debias.engine import Batch, Callback, Run
from online_debias.runtime import seeds


class Detecting(Callback):
    """Sets its detector up for the first features that it sees, and resumes with it.

    Args:
        detector: what scores.
        name: unique in a run.
    """

    def __init__(self, detector: Detector, name: str | None) -> None:
        super().__init__(name)
        self.detector = detector
        self._as_given: list[Detector] = []  # in a list, for a module would be part of the state

    def setup(self, run: Run) -> None:
        """Begin with the detector as it was given, whatever it learned in another run."""
        if self._as_given:
            self.detector = deepcopy(self._as_given[0])
        else:
            self._as_given.append(deepcopy(self.detector))

    def set_up_for(self, features: Tensor) -> None:
        """Make the detector's buffers for features `[B, D]`, unless it has some."""
        if not self.detector.n_features:
            self._set_up(features.shape[1])

    def replacements(self, batch: Batch, score: Tensor, posterior: Tensor) -> tuple[Tensor, Tensor]:
        """Return score and bias value, each `[B]`, to restate or replace signals by.

        Mixed rows count as not conflicting.
        """
        seen = likely_class(posterior, batch.targets, score)
        return torch.where(batch.mixed, 0.0, score), torch.where(batch.mixed, batch.targets, seen)

    def _set_up(self, n_features: int) -> None:
        run = self.run
        self.detector.setup(
            n_features, run.n_classes, run.device, seeds.derive(run.seed, self.name)
        )

    def get_extra_state(self) -> dict[str, int]:
        """Return the width of the features, 0 before the first step."""
        return {"n_features": self.detector.n_features}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Make the detector's buffers, which are loaded after this."""
        if state["n_features"]:
            self._set_up(state["n_features"])
