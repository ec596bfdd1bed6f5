"""One training step, as callbacks see it."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from online_debias.memory.former_names import Signals, current_name
from online_debias.runtime import distributed


@dataclass(slots=True)
class Batch:
    """One training step: what is known of its rows, and what callbacks contribute to it.

    Fields fill up in the order of the step's stages (see `Event`): `inputs` before the forward
    pass, `logits` and `features` from `on_features` on, `losses` from `on_loss` on, `weights` once
    the factors are composed. Bias annotations are not here: only monitors see them.

    When ranks train together, callbacks and monitors see the rows of all ranks, in the order in
    which one process would have drawn them; the loop gets the rows of its own rank.

    Example:
        >>> rows = torch.arange(2)
        >>> batch = Batch(0, 0, rows, torch.zeros(2, 3), rows, torch.ones(2), rows > 0)
        >>> batch.publish("conflict", torch.tensor([0.9, 0.8]), known=rows < 1)
        >>> batch.signals["conflict"], batch.known["conflict"]
        (tensor([0.9000, 0.0000]), tensor([ True, False]))
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
    signals: Signals = field(default_factory=Signals)  # [B] or [B, ...], detached
    known: Signals = field(default_factory=Signals)  # [B] bool, of which a signal says something
    factors: dict[str, Tensor] = field(default_factory=dict)  # weight factors [B], by contributor
    shifts: dict[str, Tensor] = field(default_factory=dict)  # of logits [B, C], by contributor
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

    def publish(self, name: str, value: Tensor, known: Tensor | None = None) -> None:
        """Publish a signal, one value a row, for the callbacks that require it.

        It is never rewritten: whoever doubts it publishes another one, and readers combine.

        Args:
            name: of the signal, one of the callback's `provides`.
            value: `[B]` or `[B, ...]`.
            known: `[B]` bool, rows of which the signal says something. Of the others, and of mixed
                rows, a score becomes 0 and a label the target, as of a bias-aligned row. None
                leaves every value as it is. Mixed rows are never remembered.

        Raises:
            ValueError: `name` was published before in this step, `value` has not `B` rows, or
                `known` is not `[B]` bool.
        """
        name, plain = current_name(name), ~self.mixed
        value = contributed("signal", name, value, len(self), self.signals)
        if known is not None:
            if known.shape != plain.shape or known.dtype != torch.bool:
                raise ValueError(
                    f"The known rows of signal {name!r} are {list(known.shape)} {known.dtype}, "
                    f"expected [{len(self)}] torch.bool: one truth value a row."
                )
            plain = plain & known
            shape = (-1, *[1] * (value.ndim - 1))
            is_label = not (value.is_floating_point() or value.dtype == torch.bool)
            neutral = self.targets.view(shape) if is_label else torch.zeros_like(value)
            value = torch.where(plain.view(shape), value, neutral)
        self.signals[name], self.known[name] = value, plain

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

    def gathered(self) -> Batch:
        """Return the rows of all ranks, with logits and features gathered in one collective."""
        if self.whole is None:
            return self
        assert self.logits is not None
        named = {"": self.logits, **self.features}
        widths = [value.shape[1] for value in named.values()]
        parts = distributed.gather_rows(torch.cat(list(named.values()), 1)).split(widths, 1)
        self.whole.features = dict(zip(named, parts, strict=True))
        self.whole.logits = self.whole.features.pop("")
        return self.whole

    def detached(self) -> Batch:
        """Return a copy without graphs, for those who only watch."""
        return replace(
            self,
            inputs=self.inputs.detach(),
            logits=None if self.logits is None else self.logits.detach(),
            losses=None if self.losses is None else self.losses.detach(),
            features={name: value.detach() for name, value in self.features.items()},
            signals=Signals(self.signals),
            known=Signals(self.known),
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
