"""Any map-style data set, read once into memory."""

from __future__ import annotations

import importlib
import operator
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from online_debias.data.images import Images
from online_debias.data.own.splits import check_shares, hold_out
from online_debias.data.reading.files import check_memory, report
from online_debias.data.reading.pixels import to_pixels
from online_debias.data.source import Source
from online_debias.errors import positive

ITEM = "expected (image, target) or (image, target, bias)"


class FromDataset(Source):
    """A map-style data set of `(image, target)` or `(image, target, bias)`, such as torchvision's.

    Images are Pillow's, or arrays or tensors `[H, W]`, `[C, H, W]` or `[H, W, C]` of uint8 or of
    floats from 0 to 1, so not normalised; all become RGB. (If both could be channels, they come
    first in a tensor and last in an array.) Each item is read once, when a split is
    first asked for. Targets count from 0; `bias == target` has to mean bias-aligned. What is held
    out is a share of each class, so as biased as the rest. `Images.paths` says which item an image
    was.

    Args:
        dataset: the data set, or the import path of one or of what makes one, a class or function.
        arguments: what `dataset` is called with, if it is an import path.
        size: pixels on a side: the shorter side is scaled to it, then the centre is cropped; None
            keeps the images as they are, all of one size.
        validation: a share to hold out, or another data set, or its import path; 0 is none.
        validation_arguments: what `validation` is called with, if it is an import path.
        test: a share to hold out, or another data set, or its import path.
        test_arguments: what `test` is called with, if it is an import path.
        classes: the names of the classes; the data set's `classes`, if it has them, when None.
        seed: decides which items are held out.

    Raises:
        ValueError: there is no such import path, or what is there is no map-style data set; items
            cannot be used, all named in one report; or an argument is out of range.

    Example:
        >>> items = [(torch.full((8, 8), 0.5), number % 2) for number in range(20)]
        >>> data = FromDataset(items, classes=["even", "odd"])
        >>> train = data.train()
        >>> train.images.shape, len(data.validation()), len(data.test())
        (torch.Size([14, 3, 8, 8]), 2, 4)
    """

    summary: ClassVar[str] = "Your own map-style data set of (image, target)."

    def __init__(
        self,
        dataset: Any,
        arguments: dict[str, Any] | None = None,
        size: int | None = None,
        validation: Any = 0.1,
        validation_arguments: dict[str, Any] | None = None,
        test: Any = 0.2,
        test_arguments: dict[str, Any] | None = None,
        classes: list[str] | None = None,
        seed: int = 0,
    ) -> None:
        if size is not None:
            positive(size=size)
        given = {"validation": validation, "test": test}
        self._shares = {n: float(x) for n, x in given.items() if isinstance(x, int | float)}
        check_shares(self._shares)
        called = {"validation": validation_arguments, "test": test_arguments}
        self._datasets = {"train": _resolve("dataset", dataset, arguments)}
        for name, value in given.items():
            if name not in self._shares:
                self._datasets[name] = _resolve(name, value, called[name])
        self.size, self.seed = size, seed
        names = classes or getattr(self._datasets["train"], "classes", None) or ()
        self.classes = tuple(map(str, names))
        self._splits: dict[str, Images] = {}

    def train(self) -> Images:
        """The training images."""
        return self._split("train")

    def validation(self) -> Images | None:
        """The validation images, given or held out; None if the share is 0."""
        return None if self._shares.get("validation") == 0 else self._split("validation")

    def test(self) -> Images:
        """The test images, given or held out; if held out as biased as the training images."""
        return self._split("test")

    def _split(self, name: str) -> Images:
        if not self._splits:
            self._read_train()
        if name not in self._splits:
            pixels, targets, bias = _read_all(name, self._datasets[name], self.size)
            rows = list(range(len(pixels)))
            self._splits[name] = self._images(name, pixels, targets, bias, rows)
        return self._splits[name]

    def _read_train(self) -> None:
        pixels, targets, bias = _read_all("dataset", self._datasets["train"], self.size)
        n_classes = int(targets.max()) + 1
        self.classes = self.classes or tuple(map(str, range(n_classes)))
        if n_classes > len(self.classes) or n_classes < 2:
            raise ValueError(
                f"dataset has targets up to {n_classes - 1} and {len(self.classes)} classes "
                f"({', '.join(self.classes)}); expected two classes or more, numbered from 0."
            )
        held = hold_out(targets.tolist(), self.classes, self._shares, self.seed)
        order = [row for rows in held.values() for row in rows]
        pixels, targets = pixels[order], targets[order]  # each split is a view of these
        bias = None if bias is None else bias[order]
        start = 0
        for name, rows in held.items():
            part = slice(start, start + len(rows))
            start += len(rows)
            value = None if bias is None else bias[part]
            self._splits[name] = self._images(name, pixels[part], targets[part], value, rows)

    def _images(
        self, name: str, pixels: Tensor, targets: Tensor, bias: Tensor | None, rows: list[int]
    ) -> Images:
        paths = tuple(f"item {row}" for row in rows)
        try:
            return Images(pixels, targets, bias, self.classes, paths)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


def _resolve(name: str, given: Any, arguments: Mapping[str, Any] | None) -> Any:
    """The data set that an argument stands for."""
    found = given
    if isinstance(given, str):
        found = _imported(name, given)
        if callable(found):
            try:
                found = found(**(arguments or {}))
            except TypeError as error:
                raise ValueError(f"{name}: {given} cannot be called ({error}).") from error
            arguments = None
    if arguments is not None:
        raise ValueError(
            f"{name}: arguments {dict(arguments)} are given, but nothing to call with them; name a "
            "class or function by its import path."
        )
    if not (hasattr(found, "__getitem__") and hasattr(found, "__len__")) or isinstance(found, dict):
        raise ValueError(
            f"{name} is {type(found).__name__}, expected a map-style data set, one with a length "
            "and items by number."
        )
    if len(found) == 0:
        raise ValueError(f"{name} has no items; expected at least one of every class.")
    return found


def _imported(name: str, path: str) -> Any:
    module, _, attribute = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{name}: there is no {path!r} to import ({error}); give an import path such as "
            "mine.make_dataset (modules in the current folder are found)."
        ) from None


def _read_all(name: str, dataset: Any, size: int | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Read every item: pixels `[N, 3, H, W]`, targets `[N]`, bias `[N]` or None."""
    pixels = torch.empty(0)
    targets: list[int] = []
    biases: list[int] = []
    reasons: dict[str, str] = {}
    for row in range(len(dataset)):
        try:
            image, target, *bias = _item(dataset, row)
            found = to_pixels(image, size)
            labels = [_label("target", target), *(_label("bias", value) for value in bias)]
            if not targets:
                check_memory(len(dataset), *found.shape[1:])
                pixels = torch.empty(len(dataset), *found.shape, dtype=torch.uint8)
            elif found.shape != pixels.shape[1:]:
                raise ValueError(
                    f"has {_shape(found)} pixels where the first has {_shape(pixels)}; give a size "
                    "to scale all to"
                )
            elif bool(bias) != bool(biases):
                raise ValueError("has a bias where the first has none, or the other way round")
        except ValueError as error:
            reasons[f"item {row}"] = str(error)
            continue
        pixels[row] = found
        targets.append(labels[0])
        biases += labels[1:]
    if reasons:
        raise ValueError(
            f"{name}: {report(reasons, len(dataset))}\nRepair these items, or leave them out of "
            "the data set."
        )
    return pixels, torch.tensor(targets), torch.tensor(biases) if biases else None


def _item(dataset: Any, row: int) -> tuple[Any, ...]:
    try:
        item = dataset[row]
    except Exception as error:  # a person's own code may raise anything
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if not isinstance(item, tuple | list) or len(item) not in (2, 3):
        length = f" of {len(item)}" if isinstance(item, tuple | list) else ""
        raise ValueError(f"is {type(item).__name__}{length}, {ITEM}")
    return tuple(item)


def _label(name: str, value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {value!r}, expected a whole number from 0") from None
    if number < 0:
        raise ValueError(f"{name} is {number}, expected a whole number from 0")
    return number


def _shape(pixels: Tensor) -> str:
    return " x ".join(map(str, pixels.shape[-2:]))
