"""A small image set in memory."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset


class Images(Dataset[tuple[Tensor, int]]):
    """Images, targets and, beside them, bias annotations, as tensors on one device.

    An item is `(image, target)`, the image as `to_float` gives it. The annotation is
    never part of an item: `bias` is there for monitors and metrics only. A training loop
    that wants no workers gathers `images[index]` on the device and converts the whole batch.

    Args:
        images: `[N, C, H, W]` uint8.
        targets: `[N]` int64, the class of each image.
        bias: `[N]` int64, the value of the bias attribute (`bias == targets` is
            bias-aligned), or None where nobody annotated it.
        classes: The names of the classes.
        paths: Where each image was read from, for people to find it; None if from no file.

    Raises:
        ValueError: For a wrong shape or dtype, a label out of range, or a class without images.

    Example:
        >>> pixels = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
        >>> data = Images(pixels, torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), ("cat", "dog"))
        >>> image, target = data[2]
        >>> image.shape, image.min().item(), target
        (torch.Size([1, 2, 2]), -0.5, 1)
        >>> data.conflicting
        tensor([False, False,  True])
    """

    def __init__(
        self,
        images: Tensor,
        targets: Tensor,
        bias: Tensor | None,
        classes: tuple[str, ...],
        paths: tuple[str, ...] | None = None,
    ) -> None:
        if images.ndim != 4 or images.dtype != torch.uint8:
            raise ValueError(f"images must be [N, C, H, W] uint8, not {_describe(images)}.")
        _check_labels("targets", targets, len(images))
        if bias is not None:
            _check_labels("bias", bias, len(images))
        if len(targets) and int(targets.max()) >= len(classes):
            raise ValueError(
                f"targets holds label {int(targets.max())}, but there are {len(classes)} classes: "
                f"name the missing ones in `classes`, or number the labels from 0."
            )
        counts = torch.bincount(targets, minlength=len(classes)).tolist()
        if 0 in counts:
            label = counts.index(0)
            raise ValueError(
                f"class {classes[label]!r} (label {label}) has no images: "
                f"add some, or leave it out of `classes`."
            )
        if paths is not None and len(paths) != len(images):
            raise ValueError(
                f"paths must name {len(images)} files, one an image, not {len(paths)}."
            )
        self.images = images
        self.targets = targets
        self.bias = bias
        self.classes = classes
        self.paths = paths

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One image `[C, H, W]`, float32 in [-.5, .5], and its target."""
        return self.to_float(self.images[index]), int(self.targets[index])

    def to(
        self,
        device: torch.device | str,
        memory_format: torch.memory_format = torch.preserve_format,
    ) -> Images:
        """The same set with all its tensors on `device`, the images stored in `memory_format`."""
        bias = None if self.bias is None else self.bias.to(device)
        images = self.images.to(device, memory_format=memory_format)
        return Images(images, self.targets.to(device), bias, self.classes, self.paths)

    @property
    def conflicting(self) -> Tensor | None:
        """`[N]` bool, true where the image is bias-conflicting; None without annotations."""
        return None if self.bias is None else self.bias != self.targets

    @staticmethod
    def to_float(images: Tensor) -> Tensor:
        """Brings uint8 images of any shape to float32 in [-.5, .5], on their device.

        Raises:
            ValueError: If `images` is not uint8.
        """
        if images.dtype != torch.uint8:
            raise ValueError(f"images must be uint8 (0 to 255), not {_describe(images)}.")
        return images.to(torch.float32).div_(255).sub_(0.5)


def _check_labels(name: str, labels: Tensor, length: int) -> None:
    if labels.shape != (length,) or labels.dtype != torch.int64:
        raise ValueError(f"{name} must be [{length}] int64, not {_describe(labels)}.")
    if length and int(labels.min()) < 0:
        raise ValueError(
            f"{name} holds label {int(labels.min())}, but labels count from 0: renumber them."
        )


def _describe(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
