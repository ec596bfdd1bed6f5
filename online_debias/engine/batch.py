"""One training step, as callbacks see it."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from online_debias.runtime import distributed


@dataclass(slots=True)
class Batch:
    """One training step: what is known of its rows, and what callbacks contribute to it.

    Fields fill up in the order of the step's stages (see `Event`): `inputs` before the forward
    pass, `logits` and `features` from `on_features` on, `losses` from `on_loss` on, `weights` once
    the factors are composed. Bias annotations are not here: only monitors see them.

    When ranks train together, callbacks and monitors see the rows of all ranks, in the order in
    which one process would have drawn them; the loop gets the rows of its own rank.
    """

    step: int
    epoch: int
    index: Tensor  # [B] int64, position in the training set; repeats allowed
    inputs: Tensor  # [B, ...]
    targets: Tensor  # [B] int64
    rate: Tensor  # [B] how much oftener than uniform the row is drawn; 1 when not resampled
    mixed: Tensor  # [B] bool, not a training image as it is: neither scored nor learned
    logits: Tensor | None = None  # [B, C] float32
    features: dict[str, Tensor] = field(default_factory=dict)  # tap -> [B, D], on the graph
    losses: Tensor | None = None  # [B], on the graph
    weights: Tensor | None = None  # [B]
    signals: dict[str, Tensor] = field(default_factory=dict)  # detached, less what was retracted
    published: dict[str, Tensor] = field(default_factory=dict)  # signals as who speaks says them
    withheld: dict[str, Tensor] = field(default_factory=dict)  # signal -> [B] bool, not to be kept
    hushed: set[str] = field(default_factory=set)  # signals withheld of all, as the host knows
    factors: dict[str, Tensor] = field(default_factory=dict)  # weight factors [B], by contributor
    shifts: dict[str, Tensor] = field(
        default_factory=dict
    )  # added to logits [B, C], by contributor
    terms: dict[str, Tensor] = field(default_factory=dict)  # scalar loss terms, by contributor
    originals: Tensor | None = None  # [B, ...] inputs as they were drawn, before any callback
    whole: Batch | None = None  # the rows of all ranks, where these are one rank's

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.index)

    @property
    def mass(self) -> Tensor:
        """`[B]`, what a row counts for in what is learned: drawn often, less; mixed, nothing."""
        return torch.where(self.mixed, 0.0, 1 / self.rate)

    def publish(self, name: str, value: Tensor) -> None:
        """Publish a signal, one value a row, for the callbacks that require it.

        Raises:
            ValueError: `name` was published before in this step, or `value` has not `B` rows.
        """
        self.signals[name] = contributed("signal", name, value, len(self), self.signals)
        self.published[name] = self.signals[name]

    def retract(self, name: str, rows: Tensor) -> None:
        """Take back what the signal `name` says of `rows` `[B]` bool: they count as bias-aligned.

        Their score becomes 0, their label the target. What several callbacks retract adds up, in
        any order; `published` keeps the signal as it was.

        Raises:
            ValueError: no callback published the signal, or `rows` is not `[B]` bool.
        """
        if name not in self.signals:
            known = ", ".join(sorted(self.signals)) or "none"
            raise ValueError(f"There is no signal {name!r} to retract from; published are {known}.")
        if rows.shape != self.targets.shape or rows.dtype != torch.bool:
            raise ValueError(
                f"Rows to retract from {name!r} are {list(rows.shape)} {rows.dtype}, expected "
                f"[{len(self)}] torch.bool: one truth value a row."
            )
        value = self.signals[name]
        neutral = torch.zeros_like(value) if value.is_floating_point() else self.targets
        self.signals[name] = torch.where(rows, neutral, value)

    def withhold(self, name: str, rows: Tensor) -> None:
        """Retract a signal of `rows` `[B]` because nothing is known yet: nobody should remember it.

        Raises:
            ValueError: see `retract`.
        """
        self.retract(name, rows)
        self.withheld[name] = self.withheld[name] | rows if name in self.withheld else rows

    def hush(self, name: str) -> None:
        """Withhold a signal of all rows in a way that the host knows: who acts on it may rest.

        Raises:
            ValueError: see `retract`.
        """
        self.withhold(name, torch.ones_like(self.mixed))
        self.hushed.add(name)

    def replace(self, name: str, value: Tensor, rows: Tensor) -> None:
        """Give the signal `name` the `value` `[B]` in `rows` `[B]`, by who replaces or restates it.

        It counts as published there, and nothing of it is withheld any more.

        Raises:
            ValueError: see `retract`; or `value` has not `B` rows.
        """
        self.retract(name, rows)
        value = contributed("replacement of the signal", name, value, len(self))
        for signals in (self.signals, self.published):
            signals[name] = torch.where(rows, value.to(signals[name].dtype), signals[name])
        if name in self.withheld:
            self.withheld[name] = self.withheld[name] & ~rows
        self.hushed.discard(name)

    def known(self, name: str) -> Tensor:
        """`[B]` bool, rows of which a memory of the signal `name` should be kept.

        They are training images as they are, and nobody withheld what the signal says of them.
        """
        plain = ~self.mixed
        return plain & ~self.withheld[name] if name in self.withheld else plain

    def silent(self, name: str) -> Tensor:
        """0-dim bool, whether the signal `name` is withheld of all rows: what it said is void."""
        if name in self.withheld:
            return self.withheld[name].all()
        return torch.zeros((), dtype=torch.bool, device=self.mixed.device)

    def append(self, rows: Tensor, inputs: Tensor) -> None:
        """Append variations `inputs` `[K, ...]` of the rows `rows` `[K]`, in `on_batch` only.

        They keep index, target and rate, and count as mixed. `K` must not depend on tensor values,
        which would wait for the device, and must be a multiple of the number of ranks.
        """
        self.index = torch.cat([self.index, self.index[rows]])
        self.inputs = torch.cat([self.inputs, inputs])
        if self.originals is not None:
            self.originals = torch.cat([self.originals, self.originals[rows]])
        self.targets = torch.cat([self.targets, self.targets[rows]])
        self.rate = torch.cat([self.rate, self.rate[rows]])
        self.mixed = torch.cat([self.mixed, torch.ones_like(self.mixed[rows])])

    def shift_logits(self, name: str, value: Tensor) -> None:
        """Add `value` `[B, C]`, with its graph, to the logits that the criterion sees.

        `logits` stays as it is: accuracies, and the model when it is used, know of no shift. Call
        it in `on_features`.

        Raises:
            ValueError: `name` contributed before in this step, or the shape is not the logits'.
        """
        if name in self.shifts:
            raise ValueError(f"Logits were shifted twice by {name!r}; use one name each.")
        if self.logits is None or value.shape != self.logits.shape:
            expected = "None" if self.logits is None else tuple(self.logits.shape)
            raise ValueError(
                f"The logit shift {name!r} has shape {tuple(value.shape)}, expected {expected}: "
                "one number for each row and class, from on_features on."
            )
        self.shifts[name] = value

    def reweight(self, name: str, factor: Tensor) -> None:
        """Multiply the rows' loss weights by a `factor` `[B]` >= 0; no gradient goes into it.

        Raises:
            ValueError: `name` contributed before in this step, or `factor` is not `[B]`.
        """
        if factor.ndim != 1:
            raise ValueError(
                f"The weight factor {name!r} has shape {tuple(factor.shape)}, expected "
                f"({len(self)},): one number a row."
            )
        self.factors[name] = contributed("weight factor", name, factor, len(self), self.factors)

    def add_loss(self, name: str, value: Tensor) -> None:
        """Add the scalar `value`, with its graph, to the step's loss.

        Raises:
            ValueError: `name` contributed before in this step, or `value` is not a scalar.
        """
        if name in self.terms:
            raise ValueError(f"Loss term {name!r} was added twice in one step; use one name each.")
        if value.ndim:
            raise ValueError(
                f"Loss term {name!r} has shape {tuple(value.shape)}, expected a scalar; "
                "reduce it with .mean() or .sum()."
            )
        self.terms[name] = value

    def of_rank(self) -> Batch:
        """Return this rank's rows; the batch itself when alone.

        Raises:
            ValueError: the rows cannot be shared out evenly.
        """
        ranks = distributed.world_size()
        if ranks == 1:
            return self
        if len(self) % ranks:
            raise ValueError(
                f"Callbacks made a batch of {len(self)} rows, which {ranks} ranks cannot share "
                "evenly; append a multiple of the number of ranks."
            )
        return replace(
            self,
            index=distributed.of_rank(self.index),
            inputs=distributed.of_rank(self.inputs),
            targets=distributed.of_rank(self.targets),
            rate=distributed.of_rank(self.rate),
            mixed=distributed.of_rank(self.mixed),
            originals=None,
            whole=self,
        )

    def detached(self) -> Batch:
        """Return a copy without graphs, for those who only watch."""
        return replace(
            self,
            inputs=self.inputs.detach(),
            logits=None if self.logits is None else self.logits.detach(),
            losses=None if self.losses is None else self.losses.detach(),
            features={name: value.detach() for name, value in self.features.items()},
            signals=dict(self.signals),
            published=dict(self.published),
            withheld=dict(self.withheld),
            hushed=set(self.hushed),
            factors=dict(self.factors),
            shifts={name: value.detach() for name, value in self.shifts.items()},
            terms={name: value.detach() for name, value in self.terms.items()},
        )


def contributed(
    kind: str, name: str, value: Tensor, rows: int, taken: Container[str] = ()
) -> Tensor:
    """Return `value`, detached.

    Args:
        kind: what it is, for messages.
        name: of the contribution.
        value: `[rows, ...]`.
        rows: of the batch.
        taken: names that were given before in this step.

    Raises:
        ValueError: the name is taken, or there is not one value a row.

    Example:
        >>> import torch
        >>> contributed("signal", "conflict", torch.ones(2, requires_grad=True), rows=2)
        tensor([1., 1.])
    """
    if name in taken:
        raise ValueError(
            f"The {kind} {name!r} was given twice in one step; give one of the callbacks another "
            "name."
        )
    if value.ndim == 0 or len(value) != rows:
        raise ValueError(
            f"The {kind} {name!r} has shape {tuple(value.shape)}, expected one value for each of "
            f"the {rows} rows."
        )
    if value.shape[1:] == (1,):  # would broadcast to rows x rows
        raise ValueError(
            f"The {kind} {name!r} has shape {tuple(value.shape)}, expected ({rows},); take its "
            "last axis away with .squeeze(1)."
        )
    return value.detach()
