"""What coloured MNIST and corrupted CIFAR-10 share: built by one protocol, or read as released."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from online_debias.data.images import Images
from online_debias.data.reading.files import load
from online_debias.data.reading.lff_layout import cumulative_biases, find_arrays, read_arrays
from online_debias.data.reading.pct_layout import find_pct, list_pct
from online_debias.data.source import Source, left_for_validation, number_to_train_on
from online_debias.runtime.seeds import generator


class Skewed(Source):
    """A set whose bias is added to plain images, by the protocol of "Learning from Failure".

    Args:
        root: Folder with one of the layouts of `expected_tree`. A released set of this `skew` is
            preferred to plain images.
        skew: Share of bias-conflicting training images.
        severity: How strong the bias is, from 1 to 4.
        n_train: Train on so many images; on all when None.
        seed: Decides what is random in the bias, and which images of a released set `n_train`
            takes. Those of plain images are the first ones.

    Raises:
        FileNotFoundError: If none of the layouts is below `root`, with the expected tree.
        ValueError: For a `skew` outside (0, 1) or a `severity` outside 1 to 4.
    """

    arrays: ClassVar[str]
    pct: ClassVar[str]
    side: ClassVar[int]

    def __init__(
        self,
        root: str | Path,
        skew: float = 0.02,
        severity: int = 4,
        n_train: int | None = None,
        seed: int = 0,
    ) -> None:
        if not 0 < skew < 1:
            raise ValueError(f"skew={skew} must be between 0 and 1: the share that conflicts.")
        if severity not in (1, 2, 3, 4):
            raise ValueError(f"severity={severity} must be 1, 2, 3 or 4.")
        self.root = Path(root).expanduser()
        self.skew = skew
        self.severity = severity
        self.n_train = n_train
        self.seed = seed
        self._folder = find_arrays(self.root, self.arrays, skew, severity)
        self._share = find_pct(self.root, self.pct, skew) if self._folder is None else None
        if self._folder is None and self._share is None:
            self._find_plain()

    def train(self) -> Images:
        """The training images, or `n_train` of them."""
        if self._share is not None:
            return self._listed("train", self._share)
        if self._folder is None:
            total = len(self._plain_targets("train"))
            return self._build("train", slice(0, self._n_train(total)), self.skew)
        everything = read_arrays(self._folder, "train", self.classes)
        rows = self._order(len(everything))[: self._n_train(len(everything))]
        return _take(everything, rows.sort().values)

    def validation(self) -> Images | None:
        """The released validation set; or up to 5,000 of the images behind the first `n_train`.

        The latter are biased as training is. None if the release has none, or fewer than 1,000
        are left.
        """
        if self._share is not None:
            there = list_pct(self.root, self._share, "valid", self.classes) is not None
            return self._listed("valid", self._share) if there else None
        if self._folder is None:
            total = len(self._plain_targets("train"))
            left = left_for_validation(self._n_train(total), total)
            last = slice(total - left, total)
            return self._build("validation", last, self.skew) if left else None
        everything = read_arrays(self._folder, "train", self.classes)
        n_train = self._n_train(len(everything))
        left = left_for_validation(n_train, len(everything))
        rows = self._order(len(everything))[n_train : n_train + left]
        return _take(everything, rows.sort().values) if left else None

    def test(self) -> Images:
        """The test images, each bias as often as any other in every class."""
        if self._share is not None:
            return self._listed("test", self._share)
        if self._folder is not None:
            return read_arrays(self._folder, "valid", self.classes)
        return self._build("test", slice(None), self._unbiased)

    def _listed(self, split: str, share: Path) -> Images:
        listing = list_pct(self.root, share, split, self.classes)
        if listing is None:
            raise FileNotFoundError(
                f"'{share}' has no images for {split}: fetch them, or give another root.\n"
                f"{self.expected_tree}"
            )
        if split != "train":
            return load(self.root, listing, self.side)
        rows = self._order(len(listing.paths))[: self._n_train(len(listing.paths))].sort().values
        return load(self.root, listing.rows(rows.tolist()), self.side)

    @property
    def _unbiased(self) -> float:
        """The skew at which each bias is as frequent as any other."""
        return 1 - 1 / len(self.classes)

    def _build(self, split: str, rows: slice, skew: float) -> Images:
        name = "test" if split == "test" else "train"
        targets = self._plain_targets(name)[rows]
        bias = cumulative_biases(targets, len(self.classes), skew)
        images = self._add_bias(self._plain_images(name, rows), bias, split)
        return Images(images, targets, bias, self.classes)

    def _n_train(self, total: int) -> int:
        return number_to_train_on(self.n_train, total, self.root)

    def _order(self, total: int) -> Tensor:
        return torch.randperm(total, generator=generator("cpu", self.seed, "order"))

    @abstractmethod
    def _find_plain(self) -> None:
        """Looks for the plain images; raises FileNotFoundError if there are none."""

    @abstractmethod
    def _plain_targets(self, split: str) -> Tensor:
        """The classes `[N]` of the plain images of `"train"` or `"test"`."""

    @abstractmethod
    def _plain_images(self, split: str, rows: slice) -> Tensor:
        """Some of the plain images of `"train"` or `"test"`, uint8."""

    @abstractmethod
    def _add_bias(self, images: Tensor, bias: Tensor, split: str) -> Tensor:
        """The plain images with their bias, `[N, 3, H, W]` uint8."""


def _take(images: Images, rows: Tensor) -> Images:
    assert images.bias is not None
    return Images(images.images[rows], images.targets[rows], images.bias[rows], images.classes)
