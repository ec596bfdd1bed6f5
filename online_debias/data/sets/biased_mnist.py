"""Biased MNIST: digits on a background whose colour goes with the digit."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from online_debias.data.biasing.colouring import bahng_biases, fill_background
from online_debias.data.images import Images
from online_debias.data.reading.idx import find_idx, idx_tree, read_images, read_labels
from online_debias.data.source import Source, check_rho, left_for_validation, number_to_train_on
from online_debias.runtime.seeds import generator

# 225, not 255, in the fourth and fifth colour is in the authors' code
COLOUR_MAP = (
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (225, 225, 0),
    (225, 0, 225),
    (0, 255, 255),
    (255, 128, 0),
    (255, 0, 128),
    (128, 0, 255),
    (128, 128, 128),
)


class BiasedMNIST(Source):
    """MNIST with coloured backgrounds.

    From "Learning De-biased Representations with Biased Representations" (Bahng et al., ICML
    2020): in each class `int(n * rho)` images get the class's own colour and the rest the other
    nine (`colouring.bahng_biases`). Images keep their order in the
    files, so that an index names an MNIST image. The test set is all of MNIST's with rho .1. The
    validation set is biased with the same `rho`: the last 5,000 training images, or as many as lie
    behind the first `n_train`; there is none if these are fewer than 1,000.

    Args:
        root: Folder with the IDX files; `expected_tree` shows the layouts that are read.
        rho: Share of bias-aligned images; .1 is no bias at all.
        n_train: Train on the first so many images.
        download: Fetch the files with torchvision if they are missing.
        seed: Decides which images conflict, and their colours.

    Raises:
        FileNotFoundError: If files are missing, with the expected tree.
        ValueError: For `rho` outside [0, 1], `n_train` out of range, or a damaged file.

    Example:
        >>> train = BiasedMNIST("data", rho=0.99, n_train=10000).train()  # doctest: +SKIP
        >>> train.images.shape, int(train.conflicting.sum())  # doctest: +SKIP
        (torch.Size([10000, 3, 28, 28]), 105)
    """

    summary: ClassVar[str] = "MNIST digits on coloured backgrounds (Bahng et al., 2020)."
    expected_tree: ClassVar[str] = idx_tree("MNIST")
    folder: ClassVar[str] = "MNIST"
    classes: tuple[str, ...] = tuple("0123456789")

    def __init__(
        self,
        root: str | Path,
        rho: float = 0.98,
        n_train: int = 60000,
        download: bool = False,
        seed: int = 0,
    ) -> None:
        check_rho(rho)
        self._files = find_idx(root, self.folder, download)
        self._total = len(read_labels(self._files, "train"))
        self.rho = rho
        self.n_train = number_to_train_on(n_train, self._total, root)
        self.seed = seed

    def train(self) -> Images:
        """The first `n_train` training images, biased."""
        return self._build("train", slice(0, self.n_train))

    def validation(self) -> Images | None:
        """Up to 5,000 of the last training images, biased; None if fewer than 1,000 are left."""
        left = left_for_validation(self.n_train, self._total)
        return self._build("validation", slice(self._total - left, None)) if left else None

    def test(self) -> Images:
        """The test images, each colour as often as any other in every class."""
        return self._build("test", slice(None))

    def _build(self, name: str, rows: slice) -> Images:
        split, rho = ("t10k", 1 / len(self.classes)) if name == "test" else ("train", self.rho)
        gray, targets = read_images(self._files, split), read_labels(self._files, split)
        if len(gray) != len(targets) or int(targets.max()) >= len(self.classes):
            raise ValueError(
                f"'{self._files[f'{split}-labels']}' must hold one label below "
                f"{len(self.classes)} for each of the {len(gray)} images: fetch it again."
            )
        gray, targets = gray[rows], targets[rows].clone()
        bias = bahng_biases(
            targets, len(self.classes), rho, generator("cpu", self.seed, name, "bias")
        )
        colours = torch.tensor(COLOUR_MAP, dtype=torch.uint8)[bias]
        return Images(self._paint(gray, colours), targets, bias, self.classes)

    @staticmethod
    def _paint(gray: Tensor, colours: Tensor) -> Tensor:
        return fill_background(gray, colours)
