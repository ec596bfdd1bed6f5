"""Parts of the image as a view: is one of them a shortcut, though no simple view is?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from online_debias.detectors import PartViews
from online_debias.errors import expect
from online_debias.views.view import TapView


class PartView(TapView):
    """Scores rows by a part of the image that predicts the class though it shows another thing.

    A bias in the shape of things, such as a digit above a garment, is seen in no shallow layer. So
    after an epoch in which the cells saw no shortcut, this looks for one in the last feature map,
    part by part (`detectors.PartViews`). It takes an epoch or two until the network tells such
    things. Once a part is found and has seen some rows, it speaks where the cells see nothing.

    It costs next to nothing while others speak, and after `rows` rows of looking in vain it gives
    up. Networks whose last features are no map, and data of fewer than five classes, have no parts
    to find.

    Args:
        detector: what looks at the parts.
        tap: name of the features, a map on the detector's grid.
        rows: rows to look at, rounded up to whole epochs, before it gives up.

    Raises:
        ValueError: `rows` is below 1.

    Example:
        >>> PartView().taps
        ('parts',)
    """

    detector: PartViews
    evidence: Tensor

    def __init__(
        self, detector: PartViews | None = None, tap: str = "parts", rows: int = 50_000
    ) -> None:
        super().__init__(PartViews() if detector is None else detector, tap)
        expect(self, "rows", rows, rows >= 1, "at least 1")
        self.rows, self.looked, self.working = rows, 0, False

    def setup(self, n_classes: int, device: torch.device, seed: int) -> None:
        """Begin at rest."""
        super().setup(n_classes, device, seed)
        self.register_buffer("evidence", torch.tensor(0.0, device=device))  # the most that was seen
        self.looked, self.working = 0, False
        self._hopeless = n_classes < self.detector.least_classes

    @property
    def at_work(self) -> bool:
        """Whether it looks or speaks; else it asks for no features."""
        return self.working

    def read(self, features: Mapping[str, Tensor], images: Tensor | None) -> Tensor | None:
        """Return the map, `[B, D]`; None, and give up, where the features are vectors."""
        x = super().read(features, images)
        if x is not None and x.shape[1] % self.detector.side**2:
            self.looked = self.rows
            return None
        return x

    def step(self, x: Tensor, targets: Tensor, mass: Tensor) -> tuple[Tensor, Tensor | None]:
        """Score rows, then learn them; see `View.step`."""
        self.looked += len(x)
        return super().step(x, targets, mass)

    def decide(self, cells_see_nothing: Tensor) -> Tensor | None:
        """Choose a part, begin to look or give up; the host waits for it.

        Args:
            cells_see_nothing: 0-dim bool, as of the latest step.

        Returns:
            The evidence, 0-dim, if it was still looking.
        """
        evidence = None
        if self.working and not self.detector.chosen and self.detector.n_features:
            evidence = self.detector.evidence
            self.evidence.copy_(torch.maximum(self.evidence, evidence))
            self.detector.choose()
        hopeful = self.looked < self.rows and not self._hopeless
        self.working = self.detector.chosen or (hopeful and bool(cells_see_nothing))
        return evidence

    def figures(self, cells_see_nothing: Tensor) -> dict[str, float | str | bool]:
        """Return what was found, for results.json, if it ever looked."""
        if not self.looked or not self.detector.n_features:
            return {}
        found: dict[str, float | str | bool] = {"part_evidence": round(float(self.evidence), 4)}
        if self.detector.chosen and bool(cells_see_nothing):
            found |= {"shortcut": True, "shortcut_part": self.detector.place}
        return found

    def get_extra_state(self) -> dict[str, Any]:
        """Return the width of the features, 0 before the first look, and how far the search is."""
        return super().get_extra_state() | {"looked": self.looked, "working": self.working}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Go on looking; the detector's buffers are loaded after this."""
        super().set_extra_state(state)
        self.looked, self.working = state["looked"], bool(state["working"])
