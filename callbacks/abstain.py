"""Act only where there is a shortcut: without one, scores are withheld from all who act on them."""

from __future__ import annotations

import torch
from torch import Tensor

from online_debias.batch import Batch
from online_debias.callback import Callback
from online_debias.functional.agreement import agreement
from online_debias.run import Run


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

    A view that tells the class is not always one that must not be used: of a cue that is there for
    good reason, the verdict says the same. It sees what the scorer's features show, so a bias in
    the shape of things escapes a shallow tap. Batches in which the view agrees with every target
    (all, before the scorer is ready) say nothing and are left out.

    Signals: refines `conflict` and `bias_group` (arguments `signal`, `group_signal`).
    Records: `shortcut/evidence`, in [0, 1]; `shortcut/found`, 1 while it is enough.

    Args:
        threshold: least evidence to act on, in (0, 1).
        hint: least evidence that the first `early` rows must have shown, at most `threshold`.
        early: rows that must show the hint.
        window: about how many rows the evidence looks back.
        least: rows it takes to say anything.
        settle: rows after which the evidence stays as it is.
        signal: name of the score.
        group_signal: name of the bias value that the view sees.
        name: unique in a run.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> Abstain().refines
        ('conflict', 'bias_group')
    """

    right: Tensor
    seen: Tensor
    early_right: Tensor
    early_seen: Tensor
    rows: Tensor
    first: Tensor

    def __init__(
        self,
        threshold: float = 0.45,
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
        self.refines = (signal, group_signal)
        self.threshold, self.window = threshold, window
        self.hint, self.early = hint, early
        self.least, self.settle = least, settle
        self.signal, self.group_signal = signal, group_signal

    def setup(self, run: Run) -> None:
        """Begin without evidence."""
        for name in ("right", "seen", "early_right", "early_seen"):
            self.register_buffer(name, torch.zeros(run.n_classes))
        self.register_buffer("rows", torch.zeros(()))
        self.register_buffer("first", torch.ones(()))  # evidence of the early rows; 1 until then
        self.stands = False  # as far as the host knows: then nothing is left to weigh

    def on_features(self, batch: Batch) -> None:
        """Weigh the evidence; take the signals back while there is too little."""
        if not self.stands:
            self._weigh(batch)
        evidence = self.evidence
        withheld = ~self._suffices(evidence)
        for signal in self.refines:
            batch.withhold(signal, withheld.expand(len(batch)))
        self.run.record("shortcut/evidence", evidence)
        self.run.record("shortcut/found", (~withheld).float())

    def on_epoch_end(self, run: Run) -> None:
        """See whether the verdict stands; here the host may wait."""
        self.stands = bool(self.rows >= self.settle)

    def _weigh(self, batch: Batch) -> None:
        told = batch.published[self.group_signal] == batch.targets
        plain = ~batch.mixed
        informs = (plain & ~told).any() & (self.rows < self.settle)
        keep = torch.where(informs, max(0.0, 1 - len(batch) / self.window), 1.0)
        mass = plain * informs / batch.rate  # a row drawn often is not more common for it
        early = mass * (self.rows < self.early)
        self.early_right.index_add_(0, batch.targets, early * told)
        self.early_seen.index_add_(0, batch.targets, early)
        self.right.mul_(keep).index_add_(0, batch.targets, mass * told)
        self.seen.mul_(keep).index_add_(0, batch.targets, mass)
        self.rows += (plain & informs).sum()
        first = agreement(self.early_right, self.early_seen)
        self.first.copy_(torch.where(self.rows < self.early, 1.0, first))

    @property
    def evidence(self) -> Tensor:
        """How much better than by chance the view tells the class, 0-dim, in [0, 1].

        Of the latest rows; of the early ones where these gave no hint.
        """
        latest = agreement(self.right, self.seen)
        return torch.where(self.first >= self.hint, latest, self.first)

    @property
    def found(self) -> Tensor:
        """Whether there is a shortcut, 0-dim bool."""
        return self._suffices(self.evidence)

    def _suffices(self, evidence: Tensor) -> Tensor:
        return (self.rows >= self.least) & (evidence >= self.threshold)

    def findings(self) -> dict[str, float]:
        """Return the verdict, for results.json."""
        return {"shortcut": bool(self.found), "shortcut_evidence": round(float(self.evidence), 4)}
