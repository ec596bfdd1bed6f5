"""Look for a shortcut in several views of a step, and score rows by the one that shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from online_debias.detectors.posterior import likely_class, seen_class
from online_debias.engine import Batch, Callback, Run
from online_debias.runtime import seeds
from online_debias.views import CellView, PartView, TextureView, View

V = TypeVar("V", bound=View)


class ShortcutScore(Callback):
    """Publishes how likely each row is bias-conflicting, if there is a shortcut at all.

    It asks up to three views of a step:

    - `CellView`: cells of a shallow feature map. A test decides whether what they see is a shortcut
      (`views.ShortcutTest`).
    - `TextureView`: the texture of the images. Where the cells see a shortcut, it speaks in their
      place if it makes much fewer errors.
    - `PartView`: parts of the image in the last feature map. Where the cells see no shortcut, it
      speaks if one of the parts is one.

    While none sees a shortcut, nothing is known of any row, so that what acts on the signals leaves
    training as it is. The verdict is `run.shortcut`, of which this callback is the only writer.

    A view that predicts the class is not always one that must not be used: of a cue that is there
    for good reason, the verdict says the same.

    Signals: provides `conflict` in [0, 1] (argument `signal`) and `bias_label`, the class that the
    row looks like (argument `label_signal`).
    Records: `detect/mean_score`, the cells' mean score; `shortcut/evidence`, in [0, 1];
    `shortcut/followed`, share of the contradicting rows in which the model sides with the cells;
    `shortcut/found`, 1 while the cells see a shortcut; `shortcut/texture`, how well texture
    predicts the class, and `shortcut/texture_speaks`, while it is read; `shortcut/part`, the
    evidence for a part, once an epoch, and `shortcut/part_found`, 1 once one speaks.

    Args:
        views: at most one of each kind, and a `CellView`; all three by default.
        signal: name of the score.
        label_signal: name of the bias label.
        name: unique in a run.

    Raises:
        ValueError: there is no `CellView`, two views are of one kind, or one is of another.

    Example:
        >>> ShortcutScore().provides
        ('conflict', 'bias_label')
    """

    cells_found: Tensor

    def __init__(
        self,
        views: Sequence[View] | None = None,
        signal: str = "conflict",
        label_signal: str = "bias_label",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        views = (CellView(), TextureView(), PartView()) if views is None else views
        for view in views:
            if not isinstance(view, CellView | TextureView | PartView):
                raise ValueError(
                    f"ShortcutScore: views has a {type(view).__name__}, expected CellView, "
                    "TextureView or PartView; leave it out."
                )
        cells = _only(views, CellView)
        if cells is None:
            raise ValueError("ShortcutScore: views has no CellView, expected one; add CellView().")
        self.cells = cells
        self.texture, self.parts = _only(views, TextureView), _only(views, PartView)
        self.signal, self.label_signal = signal, label_signal
        self.provides = (signal, label_signal)
        self.taps = tuple(dict.fromkeys(tap for view in views for tap in view.taps))

    @property
    def active_taps(self) -> tuple[str, ...]:
        """Taps of the views that are at work."""
        asked = [view for view in (self.cells, self.parts) if view is not None and view.at_work]
        return tuple(dict.fromkeys(tap for view in asked for tap in view.taps))

    def setup(self, run: Run) -> None:
        """Begin without evidence."""
        run.shortcut.seek(self.provides)
        # The streams keep the names under which the published results were made.
        for view, stream in (
            (self.cells, "conflict_score"),
            (self.texture, "texture_score"),
            (self.parts, "part_score"),
        ):
            if view is not None:
                view.setup(run.n_classes, run.device, seeds.derive(run.seed, stream))
        self.register_buffer("cells_found", torch.tensor(False))

    def on_features(self, batch: Batch) -> None:
        """Ask the views, publish what the best of them says."""
        seen = torch.zeros((), dtype=torch.bool, device=batch.index.device)
        score, label = torch.zeros(len(batch), device=seen.device), batch.targets
        if self.cells.at_work:
            seen, score, label = self._ask_cells(batch)
            if self.texture is not None and self.texture.at_work:
                score, label = self._ask_texture(self.texture, batch, score, label)
        self.cells_found.copy_(seen)
        speaks = False
        if self.parts is not None and self.parts.at_work:
            speaks, score, label = self._ask_parts(self.parts, batch, seen, score, label)
            seen = torch.ones_like(seen) if speaks else seen
        for name, value in self.cells.standing.items():
            self.run.record(f"shortcut/{name}", value)
        batch.publish(self.signal, score, seen.expand(len(batch)))
        batch.publish(self.label_signal, label, seen.expand(len(batch)))
        self.run.shortcut.see(seen)
        self.run.shortcut.rest(not self.cells.at_work and not speaks)

    def on_epoch_end(self, run: Run) -> None:
        """Let each view decide what it goes on with; here the host may wait."""
        self.cells.decide()
        if self.texture is not None and self.cells.at_work:
            self.texture.decide()
        figures = self.cells.figures()
        if self.texture is not None and self.cells.at_work:
            figures |= self.texture.figures()
        if self.parts is not None:
            evidence = self.parts.decide(~self.cells_found)
            if evidence is not None:
                run.record("shortcut/part", evidence)
            figures |= self.parts.figures(~self.cells_found)
        run.shortcut.describe(figures)

    def predict_bias(self, features: Mapping[str, Tensor], inputs: Tensor) -> Tensor | None:
        """Return the class that each row looks like to the view that speaks; None if none does."""
        if not bool(self.cells_found):
            return None if self.parts is None else self.parts.predict(features, inputs)
        if self.texture is not None and self.texture.at_work and bool(self.texture.speaks):
            return self.texture.predict(features, inputs)
        return self.cells.predict(features, inputs)

    def _ask_cells(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return whether the cells see a shortcut, 0-dim, and their score and label, each `[B]`."""
        x, ready = self.cells.read(batch.features, None), self.cells.ready
        assert x is not None and batch.logits is not None
        score, posterior = self.cells.step(x, batch.targets, batch.mass)
        self.run.record("detect/mean_score", score.mean())
        assert posterior is not None
        label = seen_class(posterior, batch.targets, score) if ready else batch.targets
        label = torch.where(batch.mixed, batch.targets, label)
        score = torch.where(batch.mixed, 0.0, score)
        logits = batch.logits.detach()
        found = self.cells.judge(label, score, batch.targets, logits, batch.mixed, batch.rate)
        return found & ready, score, label

    def _ask_texture(
        self, texture: TextureView, batch: Batch, score: Tensor, label: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return score and label, each `[B]`, with those of the texture where it speaks."""
        x = texture.read(batch.features, batch.originals)
        if x is None:
            return score, label
        own, posterior = texture.step(x, batch.targets, batch.mass)
        assert posterior is not None
        evidence = texture.compare(label, posterior.argmax(1), batch.targets, batch.mass)
        if evidence is not None:
            self.run.record("shortcut/texture", evidence)
        self.run.record("shortcut/texture_speaks", texture.speaks.float())
        own_label = likely_class(posterior, batch.targets, own)
        return (
            torch.where(texture.speaks, own, score),
            torch.where(texture.speaks, own_label, label),
        )

    def _ask_parts(
        self, parts: PartView, batch: Batch, seen: Tensor, score: Tensor, label: Tensor
    ) -> tuple[bool, Tensor, Tensor]:
        """Return whether a part speaks, and score and label with the part's where `seen` is not."""
        x = parts.read(batch.features, None)
        if x is None:
            return False, score, label
        own, posterior = parts.step(x, batch.targets, batch.mass)
        self.run.record("shortcut/part_found", float(parts.ready))
        if not parts.ready:
            return False, score, label
        assert posterior is not None
        own_label = likely_class(posterior, batch.targets, own)
        return True, torch.where(seen, score, own), torch.where(seen, label, own_label)


def _only(views: Sequence[View], kind: type[V]) -> V | None:
    found = [view for view in views if isinstance(view, kind)]
    if len(found) > 1:
        raise ValueError(
            f"ShortcutScore: views has {len(found)} of {kind.__name__}, expected at most one; "
            "leave the others out."
        )
    return found[0] if found else None
