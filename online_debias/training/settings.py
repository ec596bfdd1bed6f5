"""How one model is trained: everything but the data, the model and its callbacks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from online_debias.engine.weights import Combine, Normalize
from online_debias.errors import positive
from online_debias.functional.losses.cross_entropy import cross_entropy
from online_debias.taps.taps import Tap
from online_debias.training.optimizer import Schedule

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Settings of one training; `dataclasses.replace` changes some of them for another.

    The batch size is that of one rank. Under bfloat16 losses stay in float32.

    Args:
        criterion: loss of each row, a function or callable class `(logits, targets) -> losses`.
        taps: name -> module path (or path, pool and reads) of features that callbacks read.
        epochs: passes over the training set.
        batch_size: rows a step.
        lr: peak learning rate.
        weight_decay: decoupled weight decay.
        schedule: of the learning rate.
        precision: bfloat16 runs the model under autocast.
        channels_last: memory format of model and images.
        combine: how weight factors become one weight.
        normalize: scale the weights to mean 1 over the batch, or not.
        clip: bounds of the composed weight, before it is scaled.
        device: where to train; auto takes a GPU if there is one.
        seed: of everything random in training, except the model's initial weights.
        save_every: steps between two checkpoints, beside those at the end of every epoch.
        log_every: steps between two reads of the recorded scalars.
        evaluate_every: epochs between two evaluations; the last epoch always has one.
        patience: end the (last) training after so many evaluations without a better one, by
            accuracy over pseudo-groups of the validation split where the method has a biased view,
            else by plain accuracy on it. A one-cycle schedule is cut short: the learning rate may
            still be high, so train with the constant schedule or take best.pt.

    Raises:
        ValueError: a number is not above 0.

    Example:
        >>> from dataclasses import replace
        >>> short = replace(TrainingSettings(batch_size=32), epochs=1)
        >>> short.epochs, short.batch_size
        (1, 32)
    """

    criterion: Callable[..., Any] = cross_entropy  # a `Criterion`; parsers read no more of it
    taps: dict[str, str | Tap] = field(default_factory=dict)
    epochs: int = 12
    batch_size: int = 128
    lr: float = 8e-3
    weight_decay: float = 0.0
    schedule: Schedule = "one-cycle"
    precision: Precision = "float32"
    channels_last: bool = True
    combine: Combine = "product"
    normalize: Normalize = "batch"
    clip: tuple[float, float] = (0.0, math.inf)
    device: str = "cpu"
    seed: int = 0
    save_every: int | None = None
    log_every: int = 50
    evaluate_every: int = 1
    patience: int | None = None

    def __post_init__(self) -> None:
        positive(epochs=self.epochs, batch_size=self.batch_size, lr=self.lr)
        positive(log_every=self.log_every, evaluate_every=self.evaluate_every)
        if self.save_every is not None:
            positive(save_every=self.save_every)
        if self.patience is not None:
            positive(patience=self.patience)
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay is {self.weight_decay}, expected a number >= 0.")

    @property
    def memory_format(self) -> torch.memory_format:
        """How model and images are stored."""
        return torch.channels_last if self.channels_last else torch.contiguous_format
