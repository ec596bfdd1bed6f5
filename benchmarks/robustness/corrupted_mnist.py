"""Biased MNIST made harder: wrong labels, rare classes, a hundred classes."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from online_debias.data import BiasedMNIST, Images
from online_debias.data.biasing.colouring import balanced_biases
from online_debias.data.source import Source
from online_debias.runtime.seeds import generator


class SpoiledMNIST(BiasedMNIST):
    """Biased MNIST whose training set has wrong labels or rare classes; the test set has neither.

    Args:
        root, rho, n_train, seed: see `BiasedMNIST`.
        noise: share of the training labels that are replaced by another class, evenly. What
            conflicts is then measured by the true class: a wrong label is no conflict.
        imbalance: how much more common class 0 is than class 9, geometrically in between.
    """

    summary: ClassVar[str] = "Biased MNIST with wrong labels or rare classes."

    def __init__(
        self,
        root: str | Path,
        rho: float = 0.98,
        n_train: int = 10000,
        seed: int = 0,
        noise: float = 0.0,
        imbalance: float = 1.0,
    ) -> None:
        super().__init__(root, rho, n_train, seed=seed)
        if not 0 <= noise < 1:
            raise ValueError(f"noise={noise} must be in [0, 1): it is the share of wrong labels.")
        if imbalance < 1:
            raise ValueError(f"imbalance={imbalance} must be at least 1: class 0 to class 9.")
        self.noise, self.imbalance = noise, imbalance

    def train(self) -> Images:
        """The first `n_train` training images, biased and spoiled."""
        images = super().train()
        n, n_classes = len(images), len(self.classes)
        draw = generator("cpu", self.seed, "imbalance")
        keep_share = self.imbalance ** (-images.targets / (n_classes - 1))
        kept = (torch.rand(n, generator=draw) < keep_share).nonzero().flatten()
        assert images.bias is not None
        targets, bias = images.targets[kept], images.bias[kept]
        draw = generator("cpu", self.seed, "noise")
        wrong = torch.rand(len(kept), generator=draw) < self.noise
        other = (targets + torch.randint(1, n_classes, (len(kept),), generator=draw)) % n_classes
        labels = torch.where(wrong, other, targets)
        # An aligned image with a wrong label is no conflict: its annotation goes with the label.
        bias = torch.where(wrong & (bias == targets), labels, bias)
        return Images(images.images[kept], labels, bias, self.classes)


class MNISTPairs(Source):
    """A hundred classes: two digits side by side, on a background of the pair's colour.

    The colours are a 5x5x4 lattice of RGB, none of them white; conflicting pairs have that of any
    other pair.

    Args:
        root: Folder with MNIST's IDX files.
        rho: Share of bias-aligned images.
        n_train: Training images.
        seed: Decides pairs and colours.
    """

    summary: ClassVar[str] = "Pairs of MNIST digits, a hundred classes, on coloured backgrounds."
    expected_tree: ClassVar[str] = BiasedMNIST.expected_tree
    classes: tuple[str, ...] = tuple(f"{number:02d}" for number in range(100))

    def __init__(
        self, root: str | Path, rho: float = 0.95, n_train: int = 20000, seed: int = 0
    ) -> None:
        self._digits = BiasedMNIST(root, rho=1.0, seed=seed)  # checks the arguments
        self.rho, self.n_train, self.seed = rho, n_train, seed

    def train(self) -> Images:
        """Biased pairs of training digits."""
        return self._build("train", self._digits.train(), self.n_train, self.rho)

    def validation(self) -> None:
        """None: all training digits are trained on."""
        return

    def test(self) -> Images:
        """Unbiased pairs of test digits."""
        return self._build("test", self._digits.test(), 10000, 1 / len(self.classes))

    def _build(self, split: str, digits: Images, n: int, rho: float) -> Images:
        draw = generator("cpu", self.seed, split, "pairs")
        left, right = (torch.randint(len(digits), (n,), generator=draw) for _ in range(2))
        targets = 10 * digits.targets[left] + digits.targets[right]
        bias = balanced_biases(targets, 100, rho, generator("cpu", self.seed, split, "bias"))
        ink = torch.cat([_ink(digits.images[left]), _ink(digits.images[right])], 3)
        colours = 204 * torch.stack([bias // 20 / 4, bias // 4 % 5 / 4, bias % 4 / 3], 1)
        images = torch.lerp(colours[:, :, None, None], torch.tensor(255.0), ink)
        return Images(images.round().to(torch.uint8), targets, bias, self.classes)


def _ink(images: Tensor) -> Tensor:
    """How much of a white digit is in each 2x2 square of its coloured image, `[N, 1, 14, 14]`."""
    white = (images.amin(1, keepdim=True) == 255).float()
    return F.avg_pool2d(white, 2)
