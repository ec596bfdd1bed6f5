"""What a user could have written, each with one thing wrong; the cases name it by path."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from online_debias.data import Images
from online_debias.engine import Batch, Callback, Run
from tests.own import Shapes


class Returns(nn.Module):
    """A network for 12x12 images that returns its logits as it should not."""

    def __init__(self, n_classes: int, kind: str = "tuple") -> None:
        super().__init__()
        self.kind, self.head = kind, nn.Linear(432, n_classes + (kind == "wide"))

    def forward(self, images: Tensor) -> Any:
        logits: Tensor = self.head(images.flatten(1))
        made: dict[str, Any] = {
            "tuple": (logits, logits),
            "dict": {"logits": logits},
            "fits": logits,
            "wide": logits,
            "flat": logits.amax(1),
            "nan": logits * float("nan"),
        }
        return made[self.kind]


class Skips(Returns):
    """Has a layer that it does not call."""

    def __init__(self, n_classes: int) -> None:
        super().__init__(n_classes, "fits")
        self.unused = nn.Linear(2, 2)


class Large(nn.Module):
    """Takes images of 28x28 pixels only."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 28 * 28, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.head(images.flatten(1)))


class Fixed(nn.Module):
    """Has nothing to train."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.n_classes = n_classes

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, : self.n_classes]


class CannotBeMade(nn.Module):
    def __init__(self, n_classes: int) -> None:
        raise KeyError("no such layer")


class NoArgument(nn.Module):
    pass


class NoModule:
    def __init__(self, n_classes: int) -> None:
        pass


def by_name(model_name: str, pretrained: bool = False) -> nn.Module:
    return nn.Linear(1, 1)


def by_keyword(*, weights: str | None = None) -> nn.Module:
    return nn.Linear(1, 1)


def raises(n_classes: int) -> nn.Module:
    raise LookupError("no network in the cupboard")


def unannotated(n_classes):  # type: ignore[no-untyped-def]
    return nn.Linear(432, n_classes)


class Publishes(Callback):
    """Publishes a signal of some rows only, or as a column."""

    provides = ("conflict",)

    def __init__(self, column: bool = False) -> None:
        super().__init__()
        self.column = column

    def on_features(self, batch: Batch) -> None:
        batch.publish("conflict", batch.rate[:, None] if self.column else batch.rate[:3])


class Fails(Callback):
    """Has a defect in a hook."""

    def __init__(self, hook: str = "on_loss") -> None:
        super().__init__()
        self.hook = hook

    def setup(self, run: Run) -> None:
        if self.hook == "setup":
            raise KeyError("mask")

    def on_loss(self, batch: Batch) -> None:
        if self.hook == "on_loss":
            1 / 0  # noqa: B018

    def on_epoch_end(self, run: Run) -> None:
        if self.hook == "on_epoch_end":
            raise IndexError("behind the last")


class Contributes(Callback):
    """Weighs by a column, or adds a loss of each row."""

    def __init__(self, weighs: bool = True) -> None:
        super().__init__()
        self.weighs = weighs

    def on_loss(self, batch: Batch) -> None:
        assert batch.losses is not None
        if self.weighs:
            batch.reweight(self.name, batch.losses[:, None])
        else:
            batch.add_loss(self.name, batch.losses)


class Pings(Callback):
    requires, provides = ("pong",), ("ping",)


class Pongs(Callback):
    requires, provides = ("ping",), ("pong",)


class Odd(Shapes):
    """The shapes with one thing wrong."""

    def __init__(self, wrong: str = "") -> None:
        super().__init__()
        self.wrong = wrong

    def train(self) -> Images:
        x = super().train()
        if self.wrong == "none":
            return None  # type: ignore[return-value]
        if self.wrong == "float":
            return Images(x.images.float(), x.targets, x.bias, x.classes)
        if self.wrong == "one class":
            return Images(x.images, x.targets * 0, None, ("bar",))
        if self.wrong == "skipped label":
            return Images(x.images, x.targets * 2, None, (*x.classes, "star", "moon"))
        if self.wrong == "negative label":
            return Images(x.images, x.targets - 1, None, x.classes)
        if self.wrong == "bias":
            return Images(x.images, x.targets, torch.zeros(3).long(), x.classes)
        if self.wrong == "gray":
            return Images(x.images[:, :1], x.targets, x.bias, x.classes)
        if self.wrong == "fewer":
            return Images(x.images[:120], x.targets[:120], None, x.classes)
        return x

    def test(self) -> Images:
        x = super().test()
        if self.wrong == "other classes":
            return Images(x.images, x.targets, x.bias, ("a", "b", "c"))
        if self.wrong == "large test":
            return Images(x.images.repeat(1, 1, 2, 2), x.targets, x.bias, x.classes)
        return x


mixed_sizes = [(torch.zeros(3, 4 + number % 3, 4), number % 2) for number in range(12)]
wrong_items = [torch.zeros(3, 4, 4) for _ in range(8)]
