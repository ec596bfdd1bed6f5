"""Corrupted CIFAR-10: photographs whose corruption goes with what they show."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from online_debias.data.biasing.corruptions import CORRUPTIONS, corrupt
from online_debias.data.biasing.skewed import Skewed
from online_debias.data.reading.cifar10 import CLASSES, SIDE, TREES, Cifar10
from online_debias.data.reading.layouts import join_trees
from online_debias.data.reading.lff_layout import arrays_tree
from online_debias.data.reading.pct_layout import pct_tree
from online_debias.runtime.seeds import generator


class CorruptedCIFAR10(Skewed):
    """CIFAR-10 photographs, each corrupted; the corruption goes with the class.

    From "Learning from Failure" (Nam et al., NeurIPS 2020), its first type: snow, frost, fog,
    brightness, contrast, spatter, elastic, JPEG, pixelate, saturate, for airplanes to trucks. Read
    below `root`, whichever is found first: the authors' arrays of this skew and severity; the PNG
    files of "Learning Debiased Representation via Disentangled Feature Augmentation" (Lee et al.,
    NeurIPS 2021) of this skew, whose severity is not told; or plain CIFAR-10, as class folders or
    in the binary version, which is corrupted here (`corruptions.corrupt`, in a minute). That
    follows the published strengths but is code of our own, so figures on it are not those of the
    released sets.

    Args:
        root: Folder with one of these; `expected_tree` shows the layouts.
        skew: Share of bias-conflicting training images: .05, .02, .01 and .005 are released.
        severity: From 1 to 4; the corruption's level is one more.
        n_train: Train on so many images, on all when None. Of images corrupted here these are the
            first ones, of a released set ones drawn with `seed`. What is left, up to 5,000, is for
            validation; the PNG files have a validation set of their own.
        seed: Decides flakes, clouds and drops.

    Raises:
        FileNotFoundError: If nothing is found below `root`, with the expected tree.
        ValueError: For an argument out of range, a damaged file, or pickled CIFAR-10 alone.

    Example:
        >>> train = CorruptedCIFAR10("data", skew=0.05, n_train=45000).train()  # doctest: +SKIP
        >>> train.images.shape  # doctest: +SKIP
        torch.Size([45000, 3, 32, 32])
    """

    summary: ClassVar[str] = "CIFAR-10 with a corruption for each class (Nam et al., 2020)."
    expected_tree: ClassVar[str] = join_trees(
        *TREES, arrays_tree("CorruptedCIFAR10-Type0"), pct_tree("cifar10c")
    )
    arrays: ClassVar[str] = "CorruptedCIFAR10-Type0"
    pct: ClassVar[str] = "cifar10c"
    side: ClassVar[int] = SIDE
    classes: tuple[str, ...] = CLASSES

    def _find_plain(self) -> None:
        self._cifar = Cifar10(self.root, self.expected_tree)

    def _plain_targets(self, split: str) -> Tensor:
        return self._cifar.targets(split)

    def _plain_images(self, split: str, rows: slice) -> Tensor:
        return self._cifar.images(split, rows)

    def _add_bias(self, images: Tensor, bias: Tensor, split: str) -> Tensor:
        corrupted = torch.empty_like(images)
        for label, name in enumerate(CORRUPTIONS):
            draw = generator("cpu", self.seed, split, name)
            for rows in (bias == label).nonzero().flatten().split(1000):
                corrupted[rows] = corrupt(images[rows], name, self.severity + 1, draw)
        return corrupted
