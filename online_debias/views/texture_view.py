"""The texture of the images as a view, and whether it predicts the class better than the cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from online_debias.detectors import Detector, Mahalanobis
from online_debias.errors import expect
from online_debias.functional.shortcut.texture import texture
from online_debias.views.tally import Tally
from online_debias.views.view import View

_PRIOR = 8.0  # contradicted rows to begin with, in which the views see different things
_SMALLEST = 8  # pixels of a side, of which frequencies can be told


class TextureView(View):
    """Scores rows by the texture of their images, where it predicts classes better than the cells.

    A view that errs where nothing conflicts, such as a mean over a shallow map where the bias is a
    blur, a noise or a compression, calls many rows conflicting that are not. Texture says more of
    these biases (`functional.shortcut.texture`). It is read from the images as they were drawn: not
    varied, not mixed, and not by the network, so it stays as it is while the network is debiased. A
    loader that varies images should leave them as they are for this.

    Both views are compared from the row `least / 2` on. What a view lacks to predict the class
    always are conflicting rows, of which both are wrong, and its own errors. From `least` rows on,
    if texture lacks less than `errors` of what the cells lack, texture speaks in their place;
    unless it sees another thing, such as the class itself. Then the cells do not see what it sees
    in the rows that it contradicts, as they do in a share `same` of them where both see the bias.
    At the end of that epoch this stands for good; if texture was of no use, it rests from then on.

    Args:
        detector: a detector with class posteriors; `Mahalanobis` by default.
        errors: what texture may lack at most, relative to what the cells lack, in (0, 1].
        same: least share of the rows whose label texture contradicts in which the cells see the
            same as texture, in [0, 1).
        least: rows to see before texture may speak.

    Raises:
        ValueError: an argument is out of range, or the detector has no posteriors.

    Example:
        >>> TextureView(least=1000).least
        1000
    """

    contradicted: Tensor
    speaks: Tensor

    def __init__(
        self,
        detector: Detector | None = None,
        errors: float = 0.5,
        same: float = 0.3,
        least: int = 5120,
    ) -> None:
        super().__init__(Mahalanobis() if detector is None else detector)
        if not self.detector.has_posterior:
            raise ValueError(
                f"TextureView: the detector {type(self.detector).__name__} has no class "
                "posteriors, which say how good its view is; use Mahalanobis() or "
                "HalfSpaceTrees()."
            )
        expect(self, "errors", errors, 0 < errors <= 1, "0 < errors <= 1")
        expect(self, "same", same, 0 <= same < 1, "0 <= same < 1")
        expect(self, "least", least, least >= 1, "at least 1")
        self.tally = Tally(2)  # of the cells, and of texture
        self.errors, self.same, self.least = errors, same, least

    def setup(self, n_classes: int, device: torch.device, seed: int) -> None:
        """Begin to watch."""
        super().setup(n_classes, device, seed)
        self.tally.setup(n_classes, device)
        # Of the rows whose label texture contradicts: those in which both see the same, and all.
        self.register_buffer("contradicted", torch.tensor([0.0, _PRIOR], device=device))
        self.register_buffer("speaks", torch.tensor(False, device=device))
        self.rows, self.watching, self.resting = 0, True, n_classes < 2

    @property
    def at_work(self) -> bool:
        """Whether it watches or speaks."""
        return not self.resting

    def read(self, features: Mapping[str, Tensor], images: Tensor | None) -> Tensor | None:
        """Return the texture of images, `[B, D]`; None, and rest, where inputs are no images."""
        if images is None or images.ndim != 4 or min(images.shape[2:]) < _SMALLEST:
            self.resting = True
            return None
        return texture(images)

    def compare(
        self, by_cells: Tensor, by_texture: Tensor, targets: Tensor, mass: Tensor
    ) -> Tensor | None:
        """Count how often both views are right; return the texture's evidence, None when over.

        Args:
            by_cells: what the cells take each row for, `[B]`.
            by_texture: what the texture takes it for, `[B]`.
            targets: classes `[B]` int64.
            mass: `[B]`, what a row counts for.
        """
        before, self.rows = self.rows, self.rows + len(targets)
        if not self.watching or before < self.least / 2:
            return None
        labels = torch.stack([by_cells, by_texture])
        self.tally.add(labels, targets, mass)
        wrong = mass * (by_texture != targets)
        self.contradicted += torch.stack([wrong * (labels[0] == labels[1]), wrong]).sum(1)
        cells, own = self.evidence
        if before >= self.least:
            better = 1 - own < self.errors * (1 - cells)
            both, all_of_them = self.contradicted
            self.speaks.copy_(better & (both >= self.same * all_of_them))
        return self.evidence[1]

    @property
    def evidence(self) -> Tensor:
        """How much better than by chance the cells and texture predict the class, `[2]`."""
        return self.tally.agreement

    def decide(self) -> None:
        """Go on speaking or rest, once enough was seen; the host waits for it."""
        if self.watching and self.rows >= self.least:
            self.watching = False
            self.resting = not bool(self.speaks)

    def figures(self) -> dict[str, float | str | bool]:
        """Return how well texture predicts the class, where it speaks, for results.json."""
        if self.resting or self.watching:
            return {}
        return {"shortcut_texture": round(float(self.evidence[1]), 4)}

    def get_extra_state(self) -> dict[str, Any]:
        """Return the width of the features, and how far it is."""
        own = {"rows": self.rows, "watching": self.watching, "resting": self.resting}
        return super().get_extra_state() | own

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Go on; the detector's buffers are loaded after this."""
        super().set_extra_state(state)
        self.rows = state["rows"]
        self.watching, self.resting = bool(state["watching"]), bool(state["resting"])
