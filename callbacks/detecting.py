"""What callbacks share that have a detector: its set-up, once features are seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from online_debias import seeds
from online_debias.callback import Callback
from online_debias.detectors import Detector


class Detecting(Callback):
    """Sets its detector up for the first features that it sees, and resumes with it.

    Args:
        detector: what scores.
        name: unique in a run.
    """

    def __init__(self, detector: Detector, name: str | None) -> None:
        super().__init__(name)
        self.detector = detector

    def set_up_for(self, features: Tensor) -> None:
        """Make the detector's buffers for features `[B, D]`, unless it has some."""
        if not self.detector.n_features:
            self._set_up(features.shape[1])

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
