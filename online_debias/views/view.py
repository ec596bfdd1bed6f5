"""A view: something read off a step, and the detector that says which class it looks like."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from online_debias.detectors import Detector


class View(nn.Module):
    """Reads something off a step, and scores it with a detector that then learns it.

    The detector is set up for the first rows that it sees, since only they say how wide they are.

    Attributes:
        taps: names of the features that it reads.

    Args:
        detector: what scores.
    """

    taps: tuple[str, ...] = ()

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector
        self._as_given = [deepcopy(detector)]  # in a list, for a module would be part of the state
        self._classes, self._device, self._seed = 0, torch.device("cpu"), 0

    def setup(self, n_classes: int, device: torch.device, seed: int) -> None:
        """Begin with the detector as it was given, whatever it learned in another run."""
        self._classes, self._device, self._seed = n_classes, device, seed
        self.detector = deepcopy(self._as_given[0])

    @property
    def at_work(self) -> bool:
        """Whether its taps are to be read."""
        return True

    def read(self, features: Mapping[str, Tensor], images: Tensor | None) -> Tensor | None:
        """Return what is seen in each row, `[B, D]`; None where there is nothing to see.

        Args:
            features: tap -> `[B, D]`.
            images: `[B, ...]`, the rows as they were drawn.
        """
        raise NotImplementedError

    def step(self, x: Tensor, targets: Tensor, mass: Tensor) -> tuple[Tensor, Tensor | None]:
        """Score rows, then learn them.

        Args:
            x: what was read, `[B, D]`.
            targets: classes `[B]` int64.
            mass: `[B]`, what a row counts for.

        Returns:
            Scores `[B]` and class posteriors `[B, C]`, None where the detector has none.
        """
        if not self.detector.n_features:
            self._set_up(x.shape[1])
        return self.detector.step(x, targets, mass)

    @property
    def ready(self) -> bool:
        """Whether a score can differ from 0."""
        return self.detector.n_features > 0 and self.detector.ready

    def predict(self, features: Mapping[str, Tensor], images: Tensor) -> Tensor | None:
        """Return the class that each row looks like, `[B]`; None where that cannot be told."""
        if not (self.ready and self.detector.has_posterior):
            return None
        x = self.read(features, images)
        return None if x is None else self.detector.posterior(x).argmax(1)

    def _set_up(self, n_features: int) -> None:
        self.detector.setup(n_features, self._classes, self._device, self._seed)

    def get_extra_state(self) -> dict[str, Any]:
        """Return the width of what it reads, 0 before the first step."""
        return {"n_features": self.detector.n_features}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Make the detector's buffers, which are loaded after this."""
        if state["n_features"]:
            self._set_up(state["n_features"])


class TapView(View):
    """Reads the features of one tap.

    Args:
        detector: what scores.
        tap: name of the features.
    """

    def __init__(self, detector: Detector, tap: str) -> None:
        super().__init__(detector)
        self.tap = tap
        self.taps = (tap,)

    def read(self, features: Mapping[str, Tensor], images: Tensor | None) -> Tensor | None:
        """Return the tap's features, `[B, D]`; None where they were not read."""
        return features[self.tap].detach() if self.tap in features else None
