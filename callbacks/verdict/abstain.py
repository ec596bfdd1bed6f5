"""Act only where there is a shortcut: without one, scores are withheld from all who act on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from online_debias.engine import Batch, Callback, Run
from online_debias.functional.scores.doubt import doubt
from online_debias.functional.shortcut.agreement import agreement

_PRIOR = 8.0  # contradicting rows to begin with, of which the model sides with the view in half


class Abstain(Callback):
    """Says whether the data has a shortcut, and takes all scores back while it sees none.

    Where a simple view of the images, read in a shallow layer, tells the class of most of them, a
    network will follow it and the few it gets wrong are bias-conflicting. Where it does not, its
    disagreement means nothing: to act on it costs accuracy. So the evidence is how much better
    than by chance the biased view tells the class, over the latest rows, class by class
    (`functional.agreement`). While it is below `threshold`, every row counts as bias-aligned, and
    what acts on the signals leaves training as it is.

    A shortcut is there from the start, for a network that has hardly learned yet, while later the
    shallow layers themselves learn to tell classes. So there has to be a hint of it in the first
    `early` rows, or there is none; and after `settle` rows the verdict stands.

    A view that tells nearly every class is `sure`. One that tells less also errs where nothing
    conflicts; it is a shortcut only if the model takes it: on the rows that contradict the view (a
    score above 1/2) the model prefers what the view sees to the label, in a share `follow` of them.
    That takes about `window` rows to see, in which the evidence alone decides, and is over once the
    model is debiased; so what was once released stays so, as long as there is evidence.

    A view that tells the class is not always one that must not be used: of a cue that is there for
    good reason, the verdict says the same. It sees what the scorer's features show, so a bias in
    the shape of things escapes a shallow tap; `PartScore` looks for that. Batches in which the view
    agrees with every target (all, before the scorer is ready) say nothing and are left out.

    Signals: withholds `conflict` and `bias_group` (arguments `signal`, `group_signal`). Once the
    verdict stands and finds none, it hushes them: the host knows it, and who acts on them rests.
    Records: `shortcut/evidence`, in [0, 1]; `shortcut/followed`, share of the contradicting rows in
    which the model sides with the view; `shortcut/found`, 1 while both are enough.

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
        signal: name of the score.
        group_signal: name of the bias value that the view sees.
        name: unique in a run.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> Abstain().withholds
        ('conflict', 'bias_group')
    """

    right: Tensor
    seen: Tensor
    rows: Tensor
    sided: Tensor
    contradicting: Tensor
    released: Tensor
    _stands: tuple[Tensor, Tensor, Tensor] | None  # what is recorded once it will not change
    _acts: bool | None  # what the host knows then

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
        signal: str = "conflict",
        group_signal: str = "bias_group",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if not 0 < threshold < 1:
            raise ValueError(
                f"Abstain: threshold is {threshold}, expected a number between 0 and 1."
            )
        if not threshold <= sure <= 1:
            raise ValueError(
                f"Abstain: sure is {sure}, expected threshold <= sure <= 1; threshold is "
                f"{threshold}."
            )
        if not 0 <= follow < 1:
            raise ValueError(f"Abstain: follow is {follow}, expected 0 <= follow < 1.")
        if not 0 <= hint <= threshold:
            raise ValueError(
                f"Abstain: hint is {hint}, expected 0 <= hint <= threshold, which is {threshold}."
            )
        if not 1 <= least <= window <= settle:
            raise ValueError(
                f"Abstain: least is {least}, window {window} and settle {settle}, expected 1 <= "
                "least <= window <= settle."
            )
        if not least <= early <= settle:
            raise ValueError(
                f"Abstain: early is {early}, expected least <= early <= settle, which are {least} "
                f"and {settle}."
            )
        self.withholds = (signal, group_signal)
        self.threshold, self.window = threshold, window
        self.sure, self.follow = sure, follow
        self.hint, self.early = hint, early
        self.least, self.settle = least, settle
        self.signal, self.group_signal = signal, group_signal

    def setup(self, run: Run) -> None:
        """Begin without evidence."""
        for name in ("right", "seen"):  # of the latest rows, and of the early ones
            self.register_buffer(name, torch.zeros(2, run.n_classes))
        self.register_buffer("rows", torch.zeros(()))
        self.register_buffer("sided", torch.tensor(_PRIOR / 2))
        self.register_buffer("contradicting", torch.tensor(_PRIOR))
        self.register_buffer("released", torch.tensor(False))
        self._stands = self._acts = None

    def on_features(self, batch: Batch) -> None:
        """Weigh the evidence; take the signals back while there is too little."""
        if self._acts is not None and self._stands is None:  # it was resumed
            self._stands = self._verdict
        evidence, followed, found = self._stands or self._weighed(batch)
        for signal in self.withholds:
            if self._acts is None:
                batch.withhold(signal, ~found.expand(len(batch)))
            elif not self._acts:
                batch.hush(signal)
        self.run.record("shortcut/evidence", evidence)
        self.run.record("shortcut/followed", followed)
        self.run.record("shortcut/found", found.float())

    def on_epoch_end(self, run: Run) -> None:
        """See whether the verdict stands; here the host may wait."""
        if self.rows >= self.settle:
            self._stands = self._verdict
            self._acts = bool(self.found)

    def get_extra_state(self) -> dict[str, bool | None]:
        """Return what the host knows of a verdict that stands."""
        return {"acts": self._acts}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take it back; the evidence is in buffers, which are loaded after this."""
        self._stands, self._acts = None, state["acts"]

    @property
    def hides_view(self) -> bool:
        """Whether the verdict is that there is no shortcut; the host waits for it."""
        return not bool(self.found)

    def _weighed(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        assert batch.logits is not None
        view = batch.published[self.group_signal]
        told = view == batch.targets
        plain = ~batch.mixed
        informs = (plain & ~told).any() & (self.rows < self.settle)
        plain &= informs
        keep = torch.where(informs, max(0.0, 1 - len(batch) / self.window), 1.0)
        mass = plain / batch.rate  # a row drawn often is not more common for it
        mass = torch.stack([mass, mass * (self.rows < self.early)])
        for total, part in ((self.right, mass * told), (self.seen, mass)):
            total[0].mul_(keep)
            total.index_add_(1, batch.targets, part)
        self.rows += plain.sum()
        contradicts = plain & (batch.published[self.signal] > 0.5)
        sides = contradicts & (doubt(batch.logits.detach(), batch.targets, view) > 0.5)
        self.sided.mul_(keep).add_(sides.sum())
        self.contradicting.mul_(keep).add_(contradicts.sum())
        evidence, followed = self.evidence, self.followed
        suffices = self._suffices(evidence)
        self.released |= suffices & ((evidence >= self.sure) | (followed >= self.follow))
        return evidence, followed, suffices & self._may_act

    @property
    def evidence(self) -> Tensor:
        """How much better than by chance the view tells the class, 0-dim, in [0, 1].

        Of the latest rows; of the early ones where these gave no hint.
        """
        latest, early = agreement(self.right, self.seen)
        hinted = (self.rows < self.early) | (early >= self.hint)
        return torch.where(hinted, latest, early)

    @property
    def followed(self) -> Tensor:
        """Share of the latest contradicting rows in which the model sides with the view, 0-dim."""
        return self.sided / self.contradicting

    @property
    def found(self) -> Tensor:
        """Whether there is a shortcut, 0-dim bool."""
        return self._may_act & self._suffices(self.evidence)

    @property
    def _verdict(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.evidence, self.followed, self.found

    @property
    def _may_act(self) -> Tensor:
        # To wait until the model was seen to follow would cost more than to act without cause.
        return self.released | (self.rows < self.window)

    def _suffices(self, evidence: Tensor) -> Tensor:
        return (self.rows >= self.least) & (evidence >= self.threshold)

    def findings(self) -> dict[str, float | str]:
        """Return the verdict, for results.json; whether it is followed only if it could matter."""
        evidence = self.evidence
        found: dict[str, float | str] = {
            "shortcut": bool(self.found),
            "shortcut_evidence": round(float(evidence), 4),
        }
        if self._suffices(evidence):
            found["shortcut_followed"] = round(float(self.followed), 4)
        return found
