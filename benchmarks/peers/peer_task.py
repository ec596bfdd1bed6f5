"""What another library's method is given: our tensors, our network, our optimizer and schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Dataset

from online_debias.data import Images
from online_debias.functional.metrics import group_metrics
from online_debias.models import SmallConvNet
from online_debias.runtime import seeds
from online_debias.training.evaluation import predict
from online_debias.training.optimizer import make_optimizer, make_schedule

Groups = dict[tuple[int, int], list[int]]


class Tensors(Dataset[tuple[Tensor, int]]):
    """Images as our trainer feeds them, with the attributes that SpuCo's classes read.

    An item is `(image, target)`, the image float32 in [-.5, .5]; bias annotations are left behind.

    Args:
        images: the training set.

    Attributes:
        labels: the class of each image.
        num_classes: number of classes.
        group_partition: (class, group) -> rows, what a method found or was given; {} at first.
    """

    def __init__(self, images: Images) -> None:
        self.images = Images.to_float(images.images)  # once, and not in each of the library's items
        self.labels: list[int] = images.targets.tolist()
        self.num_classes = len(images.classes)
        self.group_partition: Groups = {}

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One image `[C, H, W]` and its target."""
        return self.images[index], self.labels[index]


@dataclass
class Task:
    """A training set and all that is the same for every method; it counts what is trained.

    Args:
        images: the training set.
        widths, epochs, seed, batch_size, lr: as of our `Trainer` and `SmallConvNet`.

    Attributes:
        oracle: whether the method was given bias labels.
        passes: number of trainings.
        samples: rows trained on, in all of them.
    """

    images: Images
    widths: tuple[int, int, int] = (16, 32, 64)
    epochs: int = 12
    seed: int = 0
    batch_size: int = 128
    lr: float = 8e-3
    oracle: bool = False
    passes: int = 0
    samples: int = 0
    _schedules: list[tuple[LRScheduler, int]] = field(default_factory=list, repr=False)

    def tensors(self) -> Tensors:
        """Return the training set without bias labels."""
        return Tensors(self.images)

    def true_groups(self) -> Groups:
        """Return (class, bias) -> rows, groups with images only, and note that they were read.

        Raises:
            ValueError: nobody annotated the bias.
        """
        if self.images.bias is None:
            raise ValueError("The data has no bias labels, which a method with true groups needs.")
        self.oracle = True
        groups: Groups = {}
        pairs = zip(self.images.targets.tolist(), self.images.bias.tolist(), strict=True)
        for row, pair in enumerate(pairs):
            groups.setdefault(pair, []).append(row)
        return groups

    def network(self, stage: str = "") -> nn.Module:
        """Return a fresh network, with the initial weights that our runs have.

        Args:
            stage: "" for the network that results, a name for any other.
        """
        torch.manual_seed(seeds.derive(self.seed, "weights", stage))
        network = SmallConvNet(len(self.images.classes), self.widths)
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def optimizer(
        self,
        network: nn.Module,
        *,
        rows: int | None = None,
        epochs: int | None = None,
        beside: bool = False,
    ) -> AdamW:
        """Return our optimizer, which moves its own rate along our schedule after every step.

        Most of SpuCo's classes take no schedule, and the others step one at another time.

        Args:
            network: what it trains.
            rows: rows of an epoch; the images when None. The last, incomplete batch is a step too.
            epochs: passes over them; those of the task when None.
            beside: the network learns from the batches of another one, and is no training more.
        """
        rows, epochs = rows or len(self.images), epochs or self.epochs
        optimizer = make_optimizer(network, [], self.lr, 0.0)
        steps = epochs * math.ceil(rows / self.batch_size)
        schedule = make_schedule("one-cycle", optimizer, steps)
        optimizer.register_step_post_hook(lambda *_: schedule.step())
        self._schedules.append((schedule, steps))
        if not beside:
            self.passes += 1
            self.samples += epochs * rows
        return optimizer

    def check(self) -> None:
        """Check that every training was as long as its schedule, so that the counts are right.

        Raises:
            RuntimeError: one was not.
        """
        for schedule, steps in self._schedules:
            if schedule.last_epoch != steps:
                raise RuntimeError(
                    f"A training took {schedule.last_epoch} steps, its schedule was for {steps}."
                )


def accuracies(network: nn.Module, test: Images) -> dict[str, float]:
    """Return the accuracies of a trained network by group, as our evaluation has them."""
    predictions = predict(network, test, torch.channels_last).argmax(1)
    return group_metrics(predictions, test.targets, test.bias)
