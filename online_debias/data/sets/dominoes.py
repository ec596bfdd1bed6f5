"""Dominoes: a digit above a garment or a photograph; the digit is the bias."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from online_debias.data.biasing.colouring import balanced_biases
from online_debias.data.images import Images
from online_debias.data.reading.cifar10 import CLASSES, TREES, Cifar10
from online_debias.data.reading.idx import find_idx, idx_tree, read_images, read_labels
from online_debias.data.reading.layouts import join_trees
from online_debias.data.sets.biased_fashion_mnist import BiasedFashionMNIST
from online_debias.data.source import Source, check_rho, left_for_validation, number_to_train_on
from online_debias.runtime.seeds import generator

Top = Literal["MNIST", "FashionMNIST"]
Bottom = Literal["FashionMNIST", "CIFAR10"]


class Dominoes(Source):
    """Two images, one above the other: the upper one is the bias, the lower one the class.

    After "The Pitfalls of Simplicity Bias in Neural Networks" (Shah et al., NeurIPS 2020), with
    all ten classes. The bias is a shape, not a colour: early layers and small pooled maps do not
    see it. In each class `round((1 - rho) * n)` images have the digit of another class above them,
    all other digits equally often; which image of that digit is drawn at random, out of the same
    split. In the test set each digit is as frequent as any other in every class. Gray images
    have three equal channels, and a digit gets a black margin where the image below is larger.

    Args:
        root: Folder with the files of both sets; `expected_tree` shows the layouts.
        rho: Share of bias-aligned images; .1 is no bias at all.
        top: What is the bias: `"MNIST"` or `"FashionMNIST"`.
        bottom: What is the class: `"FashionMNIST"` or `"CIFAR10"`.
        n_train: Train on the first so many images, on all when None. The last of what is left, up
            to 5,000, are for validation, biased alike; there is none if these are fewer than 1,000.
        seed: Decides which images conflict, and the images above.

    Raises:
        FileNotFoundError: If files are missing, with the expected tree.
        ValueError: For an argument out of range, the same set twice, or a damaged file.

    Example:
        >>> Dominoes("data", rho=0.95, bottom="CIFAR10").test().images.shape  # doctest: +SKIP
        torch.Size([10000, 3, 64, 32])
    """

    summary: ClassVar[str] = "A digit above a garment or a photograph (Shah et al., 2020)."
    expected_tree: ClassVar[str] = (
        join_trees(
            "\n".join(idx_tree(name).removeprefix("ROOT/\n") for name in ("MNIST", "FashionMNIST")),
            *TREES,
        )
        + "\n(the two that are asked for)"
    )

    def __init__(
        self,
        root: str | Path,
        rho: float = 0.95,
        top: Top = "MNIST",
        bottom: Bottom = "FashionMNIST",
        n_train: int | None = None,
        seed: int = 0,
    ) -> None:
        check_rho(rho)
        if top not in get_args(Top) or bottom not in get_args(Bottom) or top == bottom:
            raise ValueError(
                f"top={top!r} and bottom={bottom!r} must be two different sets: "
                f"{' or '.join(get_args(Top))} above {' or '.join(get_args(Bottom))}."
            )
        root = Path(root).expanduser()
        self._top = find_idx(root, top)
        self._bottom = (
            Cifar10(root, self.expected_tree) if bottom == "CIFAR10" else find_idx(root, bottom)
        )
        if self._top == self._bottom:
            raise ValueError(
                f"root '{root}' holds the same files for {top} and {bottom}: put them into "
                f"'{root / top / 'raw'}' and '{root / bottom / 'raw'}'."
            )
        self.classes = CLASSES if bottom == "CIFAR10" else BiasedFashionMNIST.classes
        self.rho = rho
        self.seed = seed
        self._total = len(self._targets("train"))
        self._n_train = number_to_train_on(n_train, self._total, root)

    def train(self) -> Images:
        """The first `n_train` training images, biased."""
        return self._build("train", slice(0, self._n_train))

    def validation(self) -> Images | None:
        """Up to 5,000 of the last training images, biased; None if fewer than 1,000 are left."""
        left = left_for_validation(self._n_train, self._total)
        return self._build("validation", slice(self._total - left, None)) if left else None

    def test(self) -> Images:
        """The test images, each bias as often as any other in every class."""
        return self._build("test", slice(None))

    def _build(self, name: str, rows: slice) -> Images:
        split, rho = ("t10k", 1 / len(self.classes)) if name == "test" else ("train", self.rho)
        targets = self._targets(split)[rows].clone()
        bias = balanced_biases(
            targets, len(self.classes), rho, generator("cpu", self.seed, name, "bias")
        )
        labels, digits = read_labels(self._top, split), read_images(self._top, split)
        if len(labels) != len(digits) or len(labels.unique()) < len(self.classes):
            raise ValueError(
                f"'{self._top[f'{split}-labels']}' must hold a label for each of the "
                f"{len(digits)} images, and each of {len(self.classes)} labels: fetch it again."
            )
        above = labels.new_empty(len(bias))
        draw = generator("cpu", self.seed, name, "above")
        for label in range(len(self.classes)):
            wanted, there = bias == label, (labels == label).nonzero().flatten()
            chosen = torch.randint(len(there), (int(wanted.sum()),), generator=draw)
            above[wanted] = there[chosen]
        pixels = _stack(digits[above, None], self._images(split, rows))
        return Images(pixels, targets, bias, self.classes)

    def _targets(self, split: str) -> Tensor:
        if isinstance(self._bottom, Cifar10):
            return self._bottom.targets("test" if split == "t10k" else "train")
        return read_labels(self._bottom, split)

    def _images(self, split: str, rows: slice) -> Tensor:
        if isinstance(self._bottom, Cifar10):
            return self._bottom.images("test" if split == "t10k" else "train", rows)
        return read_images(self._bottom, split)[rows, None]


def _stack(above: Tensor, below: Tensor) -> Tensor:
    """The images `[N, 3, 2 * S, S]` of gray ones `[N, 1, s, s]` and those below, of side S >= s."""
    margin = below.shape[3] - above.shape[3]
    framed = F.pad(above, [margin // 2, margin - margin // 2] * 2)
    size = (-1, 3, -1, -1)
    return torch.cat([framed.expand(size), below.expand(size)], 2)
