"""A head that reads the bias out of the features, for callbacks that take it out of them."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch.nn.functional as F
from torch import Tensor, nn

from online_debias.engine import Batch, Callback, Run
from online_debias.functional.weights.mass_mean import mass_mean


class PrivateHead(Callback):
    """Trains a linear head to tell the bias value, and the model by what the head sees.

    The head learns by cross-entropy from detached features; the model learns from `removal`, with
    the parameters of the head detached. So one backward pass serves both sides. Mixed rows have
    no say in either; rows count as they are drawn, since it is the drawn batch that the model must
    not read the bias from.

    Args:
        weight: of the removal, relative to the criterion's 1.
        signal: name of the bias label.
        tap: name of the features.
        name: unique in a run.

    Raises:
        ValueError: `weight` is not a positive number, or, in `setup`, the signal has one value.
    """

    def __init__(self, weight: float, signal: str, tap: str, name: str | None) -> None:
        super().__init__(name)
        self.expect("weight", weight, 0 < weight < math.inf, "a finite number above 0")
        self.requires, self.taps = (signal,), (tap,)
        self.weight, self.signal, self.tap = weight, signal, tap

    @abstractmethod
    def removal(self, logits: Tensor, bias: Tensor, keep: Tensor) -> Tensor:
        """Return what the model is to make small; a scalar.

        Args:
            logits: of the head, `[B, K]`; their graph leads to the model alone.
            bias: `[B]` int64, in 0..K-1.
            keep: `[B]` bool, rows that count.
        """

    def setup(self, run: Run) -> None:
        """Make the head."""
        n_values = run.values_of(self.signal)
        if n_values < 2:
            raise ValueError(
                f"{type(self).__name__}: the signal {self.signal!r} has {n_values} value, expected "
                "at least 2, or there is nothing to remove."
            )
        self.head = nn.Linear(run.width(self.tap), n_values)

    def on_loss(self, batch: Batch) -> None:
        """Add the head's loss and the model's."""
        features, keep = batch.features[self.tap], ~batch.mixed
        bias = batch.signals[self.signal].long().clamp(0, self.head.out_features - 1)
        losses = F.cross_entropy(self.head(features.detach()), bias, reduction="none")
        batch.add_loss(f"{self.name}_head", mass_mean(losses, keep.to(losses.dtype)))
        seen = F.linear(features, self.head.weight.detach(), self.head.bias.detach())
        batch.add_loss(self.name, self.weight * self.removal(seen, bias, keep))
