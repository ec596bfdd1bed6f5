"""Is what a simple view sees a shortcut? Counts how well it tells the class, and who follows it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from online_debias.errors import expect
from online_debias.functional.scores.doubt import doubt
from online_debias.views.tally import Tally

_PRIOR = 8.0  # contradicting rows to begin with, of which the model sides with the view in half


class ShortcutTest(nn.Module):
    """Decides whether a simple view is a shortcut.

    Where a simple view of the images, read in a shallow layer, predicts the class of most of them,
    a network will follow it, and the few it gets wrong are bias-conflicting. Where it does not, its
    errors mean nothing: to act on them costs accuracy. So the evidence is how much better than by
    chance the view predicts the class, over the latest rows, class by class
    (`functional.shortcut.agreement`).

    A shortcut is there from the start, for a network that has hardly learned yet, while later the
    shallow layers themselves learn to tell classes. So the first `early` rows must give a hint of
    it, or there is none; after `settle` rows the evidence stays as it is.

    A view that predicts nearly every class is sure. One that predicts less also errs where nothing
    conflicts; it is a shortcut only if the model takes it: of the rows that contradict the view (a
    score above 1/2), the model prefers the view's class to the label in a share `follow`. That
    takes about `window` rows to see, in which the evidence alone decides, and is over once the
    model is debiased; so what was once released stays so, as long as there is evidence.

    Batches in which the view agrees with every target (all, before the detector is ready) say
    nothing and are left out.

    Args:
        threshold: least evidence to act on, in (0, 1).
        sure: evidence to act on whatever the model does, at least `threshold`.
        follow: share of the contradicting rows in which the model must side with the view if the
            evidence is not sure; 0 asks nothing of the model.
        hint: least evidence that the first `early` rows must have shown, at most `threshold`.
        early: rows that must show the hint.
        window: about how many rows evidence and following look back.
        least: rows it takes to say anything.
        settle: rows after which the evidence stays as it is.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> test = ShortcutTest(threshold=0.5)
        >>> test.setup(n_classes=2, device=torch.device("cpu"))
        >>> bool(test.found)
        False
    """

    rows: Tensor
    sided: Tensor
    contradicting: Tensor
    released: Tensor

    def __init__(
        self,
        threshold: float = 0.45,
        sure: float = 0.75,
        follow: float = 0.8,
        hint: float = 0.3,
        early: int = 2048,
        window: int = 4096,
        least: int = 512,
        settle: int = 16384,
    ) -> None:
        super().__init__()
        for name, value, valid, expected in (
            ("threshold", threshold, 0 < threshold < 1, "a number between 0 and 1"),
            ("sure", sure, threshold <= sure <= 1, f"{threshold} (threshold) <= sure <= 1"),
            ("follow", follow, 0 <= follow < 1, "0 <= follow < 1"),
            ("hint", hint, 0 <= hint <= threshold, f"0 <= hint <= {threshold} (threshold)"),
            ("least", least, least >= 1, "at least 1"),
            ("window", window, least <= window <= settle, f"{least} (least) to {settle} (settle)"),
            ("early", early, least <= early <= settle, f"{least} (least) to {settle} (settle)"),
        ):
            expect(self, name, value, valid, expected)
        self.tally = Tally(2)  # of the latest rows, and of the early ones
        self.threshold, self.sure, self.follow, self.hint = threshold, sure, follow, hint
        self.early, self.window, self.least, self.settle = early, window, least, settle

    def setup(self, n_classes: int, device: torch.device) -> None:
        """Begin without evidence."""
        self.tally.setup(n_classes, device)
        self.register_buffer("rows", torch.zeros((), device=device))
        self.register_buffer("sided", torch.tensor(_PRIOR / 2, device=device))
        self.register_buffer("contradicting", torch.tensor(_PRIOR, device=device))
        self.register_buffer("released", torch.tensor(False, device=device))

    def weigh(
        self,
        label: Tensor,
        score: Tensor,
        targets: Tensor,
        logits: Tensor,
        mixed: Tensor,
        rate: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Count a batch, and judge.

        Args:
            label: what the view takes each row for, `[B]` int64.
            score: the view's score, `[B]`.
            targets: classes, `[B]` int64.
            logits: the model's, `[B, C]`.
            mixed: `[B]` bool, rows to leave out.
            rate: `[B]`, how much oftener than uniform each row is drawn.

        Returns:
            `evidence`, `followed` and `found`, each 0-dim.
        """
        plain = ~mixed
        informs = (plain & (label != targets)).any() & (self.rows < self.settle)
        plain &= informs
        keep = torch.where(informs, max(0.0, 1 - len(label) / self.window), 1.0)
        mass = plain / rate  # a row drawn often is not more common for it
        self.tally.fade(0, keep)
        self.tally.add(label, targets, torch.stack([mass, mass * (self.rows < self.early)]))
        self.rows += plain.sum()
        contradicts = plain & (score > 0.5)
        sides = contradicts & (doubt(logits, targets, label) > 0.5)
        self.sided.mul_(keep).add_(sides.sum())
        self.contradicting.mul_(keep).add_(contradicts.sum())
        evidence, followed = self.evidence, self.followed
        suffices = self._suffices(evidence)
        self.released |= suffices & ((evidence >= self.sure) | (followed >= self.follow))
        return evidence, followed, suffices & self._may_act

    @property
    def evidence(self) -> Tensor:
        """How much better than by chance the view predicts the class, 0-dim, in [0, 1].

        Of the latest rows; of the early ones where these gave no hint.
        """
        latest, early = self.tally.agreement
        hinted = (self.rows < self.early) | (early >= self.hint)
        return torch.where(hinted, latest, early)

    @property
    def followed(self) -> Tensor:
        """Share of the latest contradicting rows in which the model sides with the view, 0-dim."""
        return self.sided / self.contradicting

    @property
    def suffices(self) -> Tensor:
        """Whether the evidence alone is enough, 0-dim bool."""
        return self._suffices(self.evidence)

    @property
    def found(self) -> Tensor:
        """Whether there is a shortcut, 0-dim bool."""
        return self.suffices & self._may_act

    @property
    def _may_act(self) -> Tensor:
        # To wait until the model was seen to follow would cost more than to act without cause.
        return self.released | (self.rows < self.window)

    def _suffices(self, evidence: Tensor) -> Tensor:
        return (self.rows >= self.least) & (evidence >= self.threshold)
