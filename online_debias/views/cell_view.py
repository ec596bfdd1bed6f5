"""The simplest view: cells of a shallow feature map, and the test whether they are a shortcut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from online_debias.detectors import BestViews, Detector
from online_debias.views.shortcut_test import ShortcutTest
from online_debias.views.view import TapView


class CellView(TapView):
    """Scores rows by the cells of a shallow map that predict the class best.

    Args:
        detector: a class-conditional detector with posteriors; `BestViews` by default.
        tap: name of the features, a map on the detector's grid.
        test: decides whether what is seen is a shortcut.

    Attributes:
        verdict: what the host knows once enough rows were seen; None before.

    Raises:
        ValueError: the detector has no class posteriors.

    Example:
        >>> CellView().taps
        ('local',)
    """

    def __init__(
        self,
        detector: Detector | None = None,
        tap: str = "local",
        test: ShortcutTest | None = None,
    ) -> None:
        detector = BestViews() if detector is None else detector
        if not detector.has_posterior:
            raise ValueError(
                f"CellView: the detector {type(detector).__name__} has no class posteriors, which "
                "say what a view sees; use BestViews() or HalfSpaceTrees()."
            )
        super().__init__(detector, tap)
        self.test = ShortcutTest() if test is None else test
        self.verdict: bool | None = None

    def setup(self, n_classes: int, device: torch.device, seed: int) -> None:
        """Begin without evidence."""
        super().setup(n_classes, device, seed)
        self.test.setup(n_classes, device)
        self.verdict = None
        self._standing: dict[str, Tensor] = {}

    @property
    def at_work(self) -> bool:
        """Whether it still looks or speaks; once the verdict is against it, it rests."""
        return self.verdict is not False

    def judge(
        self,
        label: Tensor,
        score: Tensor,
        targets: Tensor,
        logits: Tensor,
        mixed: Tensor,
        rate: Tensor,
    ) -> Tensor:
        """Count a batch while there is no verdict; return whether there is a shortcut, 0-dim.

        See `ShortcutTest.weigh`.
        """
        if self.verdict is None:
            self._standing = _named(*self.test.weigh(label, score, targets, logits, mixed, rate))
        return self.standing["found"].bool()

    @property
    def standing(self) -> dict[str, Tensor]:
        """`evidence`, `followed` and `found` as of the latest step, each 0-dim float."""
        if not self._standing:  # a run that was resumed, maybe at rest
            self._standing = _named(self.test.evidence, self.test.followed, self.test.found)
        return self._standing

    def decide(self) -> None:
        """Fix the verdict once enough rows were seen; the host waits for it."""
        if bool(self.test.rows >= self.test.settle):
            self.verdict = bool(self.test.found)

    def figures(self) -> dict[str, float | str | bool]:
        """Return what was found, for results.json.

        How many rows were seen is among it if they are too few, and what the model follows if it
        matters.
        """
        found: dict[str, float | str | bool] = {
            "shortcut": bool(self.test.found),
            "shortcut_evidence": round(float(self.test.evidence), 4),
        }
        if bool(self.test.rows < self.test.least):
            found["shortcut_rows"] = int(self.test.rows)
        if bool(self.test.suffices):
            found["shortcut_followed"] = round(float(self.test.followed), 4)
        return found

    def get_extra_state(self) -> dict[str, Any]:
        """Return the width of the features, and the verdict."""
        return super().get_extra_state() | {"verdict": self.verdict}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        super().set_extra_state(state)
        self.verdict, self._standing = state["verdict"], {}


def _named(evidence: Tensor, followed: Tensor, found: Tensor) -> dict[str, Tensor]:
    return {"evidence": evidence, "followed": followed, "found": found.float()}
