"""Where the simple view is a shortcut but errs too often, score by the texture of the images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from online_debias.detectors import Detector, Mahalanobis
from online_debias.engine import Batch, Run
from online_debias.functional.shortcut.agreement import agreement
from online_debias.functional.shortcut.texture import texture

from .detecting import Detecting

_SMALLEST = 8  # pixels of a side, of which frequencies can be told
_PRIOR = 8.0  # contradicted rows to begin with, in which the views see different things


class TextureScore(Detecting):
    """Scores rows by the texture of their images, where it tells the class better than the view.

    A view that errs where nothing conflicts, such as a mean over a shallow map where the bias is a
    blur, a noise or a compression, calls many rows conflicting that are not, and most of what is
    drawn for it is not worth it. Of all this the texture says more (`functional.texture`). It is
    read from the images as they were drawn: not varied, not mixed, and not by the network, so that
    it stays as it is while the network is debiased. A loader that varies images should leave them
    as they are for this.

    Both views are watched from the row `least / 2` on, and compared from `least` on, when `Abstain`
    has seen whether the model follows the published one: how much better than by chance they tell
    the class, class by class. What they lack to tell it always are conflicting rows, of which both
    are wrong, and their own errors. If texture lacks less than `errors` of what the published view
    does, its score and bias value stand wherever the signals are not withheld; unless it sees
    another thing, such as the class itself. Then there are few rows that it contradicts, and the
    view does not see what it sees there, as it does in a share `same` of them where both see the
    bias. At the end of that epoch this stands for good; if texture was of no use, it rests from
    then on, and costs nothing.

    Signals: restates `conflict` and `bias_group` (arguments `signal`, `group_signal`).
    Records: `shortcut/texture`, how well texture tells the class, in [0, 1], while it is read;
    `shortcut/texture_speaks`, 1 while its score stands.

    Args:
        detector: a detector with class posteriors; `Mahalanobis` by default.
        errors: what texture may lack at most, in that of the published view, in (0, 1].
        same: least share of the rows whose label texture contradicts in which the published view
            sees the same as texture, in [0, 1).
        least: rows to see before anything is restated.
        signal: name of the score.
        group_signal: name of the bias value.
        name: unique in a run.

    Raises:
        ValueError: an argument is out of range, or the detector has no posteriors.

    Example:
        >>> TextureScore().restates
        ('conflict', 'bias_group')
    """

    right: Tensor
    seen: Tensor
    contradicted: Tensor
    speaks: Tensor

    def __init__(
        self,
        detector: Detector | None = None,
        errors: float = 0.5,
        same: float = 0.3,
        least: int = 5120,
        signal: str = "conflict",
        group_signal: str = "bias_group",
        name: str | None = None,
    ) -> None:
        super().__init__(Mahalanobis() if detector is None else detector, name)
        if not self.detector.has_posterior:
            raise ValueError(
                f"TextureScore: the detector {type(self.detector).__name__} has no class "
                "posteriors, which tell how good its view is; use Mahalanobis() or "
                "HalfSpaceTrees()."
            )
        if not 0 < errors <= 1:
            raise ValueError(f"TextureScore: errors is {errors}, expected 0 < errors <= 1.")
        if not 0 <= same < 1:
            raise ValueError(f"TextureScore: same is {same}, expected 0 <= same < 1.")
        if least < 1:
            raise ValueError(f"TextureScore: least is {least}, expected at least 1.")
        self.errors, self.same, self.least = errors, same, least
        self.restates = (signal, group_signal)

    def setup(self, run: Run) -> None:
        """Begin to watch."""
        super().setup(run)
        # What the published view told right, and texture.
        self.register_buffer("right", torch.zeros(2, run.n_classes))
        self.register_buffer("seen", torch.zeros(run.n_classes))
        # Of the rows whose label texture contradicts: those in which both see the same, and all.
        self.register_buffer("contradicted", torch.tensor([0.0, _PRIOR]))
        self.register_buffer("speaks", torch.tensor(False))
        self.rows, self.watching, self.resting = 0, True, run.n_classes < 2
        self.hushed = False

    def on_features(self, batch: Batch) -> None:
        """Score, learn, and speak where the other view is worse."""
        self.hushed = self.restates[0] in batch.hushed
        if self.resting or self.hushed:
            return
        images = batch.originals
        if images is None or images.ndim != 4 or min(images.shape[2:]) < _SMALLEST:
            self.resting = True
            return
        features = texture(images)
        self.set_up_for(features)
        score, posterior = self.detector.step(features, batch.targets, batch.mass)
        assert posterior is not None
        if self.watching and self.rows >= self.least / 2:
            self._compare(batch, posterior)
        self.rows += len(batch)
        values = self.replacements(batch, score, posterior)
        for signal, value in zip(self.restates, values, strict=True):
            rows = self.speaks.expand(len(batch))
            if signal in batch.withheld:
                rows = rows & ~batch.withheld[signal]
            batch.replace(signal, value, rows)
        self.run.record("shortcut/texture_speaks", self.speaks.float())

    def on_epoch_end(self, run: Run) -> None:
        """Go on speaking or rest, once enough was seen; here the host may wait."""
        if self.watching and self.rows >= self.least:
            self.watching = False
            self.resting = not bool(self.speaks)

    def findings(self) -> dict[str, float | str]:
        """Return how well texture tells the class, if better than the view, for results.json."""
        if self.resting or self.watching:
            return {}
        return {"shortcut_texture": round(float(self.evidence[1]), 4)}

    def bias_view(self, features: Mapping[str, Tensor], inputs: Tensor) -> Tensor | None:
        """Return the class that the texture of each image is of; None while it does not speak."""
        if self.resting or self.hushed or not bool(self.speaks):
            return None
        return self.detector.posterior(texture(inputs)).argmax(1)

    @property
    def evidence(self) -> Tensor:
        """How much better than by chance the published view and texture tell the class, `[2]`."""
        return agreement(self.right, self.seen.expand_as(self.right))

    def _compare(self, batch: Batch, posterior: Tensor) -> None:
        told = torch.stack([batch.published[self.restates[1]], posterior.argmax(1)])
        right, mass = told == batch.targets, batch.mass
        self.right.index_add_(1, batch.targets, right * mass)
        self.seen.index_add_(0, batch.targets, mass)
        mass = mass * ~right[1]
        self.contradicted += torch.stack([mass * (told[0] == told[1]), mass]).sum(1)
        published, by_texture = self.evidence
        if self.rows >= self.least:
            better = 1 - by_texture < self.errors * (1 - published)
            both, all_of_them = self.contradicted
            self.speaks.copy_(better & (both >= self.same * all_of_them))
        self.run.record("shortcut/texture", by_texture)

    def get_extra_state(self) -> dict[str, int]:
        """Return the width of the features, and how far it is."""
        own = {"rows": self.rows, "watching": self.watching}
        own |= {"resting": self.resting, "hushed": self.hushed}
        return super().get_extra_state() | own

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Go on; the detector's buffers are loaded after this."""
        super().set_extra_state(state)
        self.rows = state["rows"]
        self.watching, self.resting = bool(state["watching"]), bool(state["resting"])
        self.hushed = bool(state["hushed"])
