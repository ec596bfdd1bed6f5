"""Where no simple view is a shortcut, look for a part of the image that is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from online_debias.detectors import PartViews
from online_debias.engine import Batch, Run

from .detecting import Detecting


class PartScore(Detecting):
    """Scores rows by a part of the image that tells the class though it shows another thing.

    A bias in the shape of things, such as a digit above a garment, is seen in no shallow layer, and
    a verdict that asks these says that there is no shortcut (`Abstain`). So after an epoch in which
    the signals were withheld, this looks for one in the last feature map, part by part
    (`detectors.PartViews`). It takes an epoch or two until the network tells such things. Once
    a part is found, its score and what it sees stand wherever the signals are withheld, and whoever
    acts on them does so from the next epoch on.

    It costs next to nothing while others speak, and after `rows` rows of looking in vain it gives
    up. Networks whose last features are no map, and data of fewer than five classes, have no parts
    to find.

    Signals: replaces `conflict` and `bias_group` (arguments `signal`, `group_signal`).
    Records: `shortcut/part`, the evidence that a part is the shortcut, once an epoch;
    `shortcut/part_found`, 1 once a part speaks.

    Args:
        detector: what looks at the parts.
        tap: name of the features, a map on the detector's grid.
        rows: rows to look at, rounded up to whole epochs, before it gives up.
        signal: name of the score.
        group_signal: name of the bias value that the part shows.
        name: unique in a run.

    Raises:
        ValueError: `rows` is below 1.

    Example:
        >>> PartScore().replaces
        ('conflict', 'bias_group')
    """

    detector: PartViews
    silent: Tensor
    evidence: Tensor

    def __init__(
        self,
        detector: PartViews | None = None,
        tap: str = "parts",
        rows: int = 50_000,
        signal: str = "conflict",
        group_signal: str = "bias_group",
        name: str | None = None,
    ) -> None:
        super().__init__(PartViews() if detector is None else detector, name)
        if rows < 1:
            raise ValueError(f"PartScore: rows is {rows}, expected at least 1.")
        self.tap, self.taps = tap, (tap,)
        self.rows = rows
        self.replaces = (signal, group_signal)

    def setup(self, run: Run) -> None:
        """Begin at rest."""
        super().setup(run)
        self.register_buffer("silent", torch.tensor(False))
        self.register_buffer("evidence", torch.tensor(0.0))  # the most that was seen
        self.looked = 0
        self._work(False)

    def on_features(self, batch: Batch) -> None:
        """Score, learn, and speak where the signals are withheld."""
        silent = batch.silent(self.replaces[0])
        self.silent.copy_(silent)
        if not self.working:
            return
        features = batch.features[self.tap].detach()
        if not self.detector.n_features:
            if features.shape[1] % self.detector.side**2:  # vectors: there are no parts
                self.looked = self.rows
                return
            self.set_up_for(features)
        self.looked += len(batch)
        mass = batch.mass
        score, posterior = self.detector.step(features, batch.targets, mass)
        assert posterior is not None
        if self.detector.ready:
            rows, values = silent.expand(len(batch)), self.replacements(batch, score, posterior)
            for signal, value in zip(self.replaces, values, strict=True):
                batch.replace(signal, value, rows)
        self.run.record("shortcut/part_found", float(self.detector.ready))

    def on_epoch_end(self, run: Run) -> None:
        """Choose a part, begin to look or give up; here the host may wait."""
        if self.working and not self.detector.chosen and self.detector.n_features:
            evidence = self.detector.evidence
            self.evidence.copy_(torch.maximum(self.evidence, evidence))
            run.record("shortcut/part", evidence)
            self.detector.choose()
        hopeful = self.looked < self.rows and run.n_classes >= self.detector.least_classes
        self._work(self.detector.chosen or (hopeful and bool(self.silent)))

    def findings(self) -> dict[str, float | str]:
        """Return what was found, for results.json, if anybody looked."""
        if not self.looked or not self.detector.n_features:
            return {}
        found: dict[str, float | str] = {"part_evidence": round(float(self.evidence), 4)}
        if self.detector.chosen and bool(self.silent):
            found |= {"shortcut": True, "shortcut_part": self.detector.place}
        return found

    def bias_view(self, features: Mapping[str, Tensor], inputs: Tensor) -> Tensor | None:
        """Return what the chosen part shows; None while it does not speak."""
        if not (self.detector.ready and bool(self.silent) and self.tap in features):
            return None
        return self.detector.posterior(features[self.tap]).argmax(1)

    @property
    def working(self) -> bool:
        """Whether it looks or speaks; else it asks for no features."""
        return bool(self.taps)

    def _work(self, working: bool) -> None:
        self.taps = (self.tap,) if working else ()

    def get_extra_state(self) -> dict[str, int]:
        """Return the width of the features, 0 before the first look, and how far the search is."""
        return super().get_extra_state() | {"looked": self.looked, "working": self.working}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Go on looking; the detector's buffers are loaded after this."""
        super().set_extra_state(state)
        self.looked = state["looked"]
        self._work(bool(state["working"]))
