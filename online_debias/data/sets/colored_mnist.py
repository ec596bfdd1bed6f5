"""Coloured MNIST: digits whose own colour goes with the digit."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from online_debias.data.biasing.skewed import Skewed
from online_debias.data.reading.idx import find_idx, idx_tree, read_images, read_labels
from online_debias.data.reading.layouts import join_trees, not_found
from online_debias.data.reading.lff_layout import arrays_tree
from online_debias.data.reading.pct_layout import pct_tree
from online_debias.runtime.seeds import generator

# the mean colours of the authors' code
COLOURS = (
    (0.9837, 0.3125, 0.1686),
    (0.9905, 0.9156, 0.3515),
    (0.6730, 0.4611, 0.5798),
    (0.7833, 0.8316, 0.6013),
    (0.0880, 0.7780, 0.9818),
    (0.3214, 0.9611, 0.4464),
    (0.0246, 0.2357, 0.7587),
    (0.5552, 0.1016, 0.7618),
    (0.2077, 0.3929, 0.0187),
    (0.8337, 0.2024, 0.2669),
)
DEVIATIONS = (0.05, 0.02, 0.01, 0.005)  # of the colours, by severity


class ColoredMNIST(Skewed):
    """MNIST digits with coloured strokes on black; the colour goes with the digit.

    From "Learning from Failure" (Nam et al., NeurIPS 2020). Read below `root`, whichever is found
    first: the authors' arrays of this skew and severity; the PNG files of "Learning Debiased
    Representation via Disentangled Feature Augmentation" (Lee et al., NeurIPS 2021) of this skew,
    whose severity is not told; or MNIST's IDX files, which are coloured by the authors' recipe:
    who gets which colour is fixed by the order of the images (`cumulative_biases`), and the colour
    of an image is that of its bias label with noise that shrinks with severity. In the
    test set the colour says nothing of the digit.

    Args:
        root: Folder with one of these; `expected_tree` shows the layouts.
        skew: Share of bias-conflicting training images: .05, .02, .01 and .005 are released.
        severity: From 1 (soft colours) to 4 (crisp).
        n_train: Train on so many images, on all when None. Of images coloured here these are the
            first ones, of a released set ones drawn with `seed`. What is left, up to 5,000, is for
            validation; the PNG files have a validation set of their own.
        seed: Decides the noise of the colours.

    Raises:
        FileNotFoundError: If nothing is found below `root`, with the expected tree.
        ValueError: For an argument out of range, or a damaged file.

    Example:
        >>> train = ColoredMNIST("data", skew=0.005, n_train=55000).train()  # doctest: +SKIP
        >>> train.images.shape  # doctest: +SKIP
        torch.Size([55000, 3, 28, 28])
    """

    summary: ClassVar[str] = "MNIST digits in coloured ink (Nam et al., 2020)."
    expected_tree: ClassVar[str] = join_trees(
        idx_tree("MNIST").removeprefix("ROOT/\n"), arrays_tree("ColoredMNIST"), pct_tree("cmnist")
    )
    arrays: ClassVar[str] = "ColoredMNIST"
    pct: ClassVar[str] = "cmnist"
    side: ClassVar[int] = 28
    classes: tuple[str, ...] = tuple("0123456789")

    def _find_plain(self) -> None:
        try:
            self._files = find_idx(self.root, "MNIST")
        except FileNotFoundError:
            raise not_found(self.root, "coloured or plain MNIST", self.expected_tree) from None

    def _plain_targets(self, split: str) -> Tensor:
        targets = read_labels(self._files, _idx_split(split))
        if int(targets.max()) >= len(self.classes):
            raise ValueError(
                f"'{self._files[f'{_idx_split(split)}-labels']}' must hold labels below "
                f"{len(self.classes)}: fetch it again."
            )
        return targets

    def _plain_images(self, split: str, rows: slice) -> Tensor:
        return read_images(self._files, _idx_split(split))[rows]

    def _add_bias(self, images: Tensor, bias: Tensor, split: str) -> Tensor:
        draw = generator("cpu", self.seed, split, "colour")
        noise = torch.randn(len(bias), 3, generator=draw) * DEVIATIONS[self.severity - 1]
        return ink(images, (torch.tensor(COLOURS)[bias] + noise).clamp(0, 1))


def ink(gray: Tensor, colours: Tensor) -> Tensor:
    """Colours what is bright: each pixel is its gray value times the colour.

    Args:
        gray: `[N, H, W]` uint8.
        colours: `[N, 3]` in [0, 1].

    Returns:
        `[N, 3, H, W]` uint8, rounded down as in the authors' code.

    Example:
        >>> ink(torch.full((1, 1, 1), 200, dtype=torch.uint8), torch.tensor([[1, 0.5, 0]])).tolist()
        [[[[200]], [[100]], [[0]]]]
    """
    painted = torch.empty(len(gray), 3, *gray.shape[1:], dtype=torch.uint8)
    for start in range(0, len(gray), 4096):  # all at once would need 0.5 GB in float
        rows = slice(start, start + 4096)
        painted[rows] = (gray[rows, None] * colours[rows, :, None, None]).to(torch.uint8)
    return painted


def _idx_split(split: str) -> str:
    return "t10k" if split == "test" else "train"
