"""Classes that a user could have written in a file of her own; the tests name them by path."""

from __future__ import annotations

import os
import signal

import torch

from online_debias.data import Images, Source
from online_debias.engine import Batch, Callback, Run
from tests.conftest import CLASSES, make_images


class Shapes(Source):
    """240 training images of 12x12 pixels.

    Args:
        empty: leave the last class without images.
        label: change the first label to this one.
    """

    summary = "Three shapes on coloured backgrounds."
    classes = CLASSES

    def __init__(self, empty: bool = False, label: int | None = None) -> None:
        self.empty, self.label = empty, label

    def train(self) -> Images:
        images = make_images()
        targets = images.targets.clone()
        if self.empty:
            targets[targets == 2] = 1
        if self.label is not None:
            targets[0] = self.label
        return Images(images.images, targets, images.bias, self.classes)

    def validation(self) -> Images:
        return make_images(60, 0.9, 1)

    def test(self) -> Images:
        return make_images(90, 0.33, 2)


class Poison(Callback):
    """Makes the loss NaN in one step."""

    def __init__(self, step: int = 9) -> None:
        super().__init__()
        self.step = step

    def on_loss(self, batch: Batch) -> None:
        value = float("nan") if batch.step == self.step else 0.0
        batch.add_loss(self.name, torch.tensor(value))


class Signal(Callback):
    """Sends the process a signal in one step, the first time that it gets there."""

    def __init__(self, step: int = 9, number: int = signal.SIGINT, once: str = "") -> None:
        super().__init__()
        self.step, self.number, self.once = step, number, once

    def on_loss(self, batch: Batch) -> None:
        if batch.step == self.step and not os.path.exists(self.once):
            with open(self.once, "w"):
                pass
            os.kill(os.getpid(), self.number)


class Ring(Callback):
    """Requires what only itself provides."""

    requires = ("ring",)
    provides = ("ring",)


class Stops(Callback):
    """Ends the run after an epoch."""

    def on_epoch_end(self, run: Run) -> None:
        run.stop("enough")


class Dies(Callback):
    """Kills one rank in one step, the first time that it gets there."""

    def __init__(self, rank: int = 1, step: int = 9, once: str = "died") -> None:
        super().__init__()
        self.rank, self.step, self.once = rank, step, once

    def on_loss(self, batch: Batch) -> None:
        if (self.run.rank, batch.step) == (self.rank, self.step) and not os.path.exists(self.once):
            with open(self.once, "w"):
                pass
            os.kill(os.getpid(), signal.SIGKILL)


class Plain(Shapes):
    """The shapes, without bias labels."""

    def train(self) -> Images:
        images = super().train()
        return Images(images.images, images.targets, None, images.classes)


class Fair(Shapes):
    """The shapes on colours that say nothing of them."""

    def train(self) -> Images:
        return make_images(rho=1 / 3)


class Aligned(Shapes):
    """The shapes, with an argument that the default data set has, too, and another default."""

    def __init__(self, rho: float = 0.7) -> None:
        super().__init__()
        self.rho = rho
