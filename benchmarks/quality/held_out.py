"""Data to choose settings by: what is tested are images that nobody trains on, each bias alike.

Settings chosen by these are chosen without a look at a test image, though with bias labels.
"""

from __future__ import annotations

from typing import ClassVar

from online_debias.data import BiasedDigits, ColoredMNIST, CorruptedCIFAR10, Images
from online_debias.data.biasing.skewed import Skewed

ROWS = slice(-5000, None)  # of the training images; the first ones train


class RecolouredDigits(BiasedDigits):
    """Biased digits whose test images are those that validate."""

    summary: ClassVar[str] = "Biased digits, tested on validation images that were recoloured."

    def test(self) -> Images:
        """400 images of the 50 originals that validate, unbiased."""
        return self._build("validation", 1 / len(self.classes))


class HeldOut(Skewed):
    """A set whose test images are its last training images."""

    def test(self) -> Images:
        """5,000 images, unbiased."""
        return self._build("held out", ROWS, self._unbiased)


class RecolouredMNIST(HeldOut, ColoredMNIST):
    """Coloured MNIST whose test images are its last training images."""

    summary: ClassVar[str] = "Coloured MNIST, tested on unbiased images from its training set."


class RecorruptedCIFAR10(HeldOut, CorruptedCIFAR10):
    """Corrupted CIFAR-10 whose test images are its last training images."""

    summary: ClassVar[str] = "Corrupted CIFAR-10, tested on unbiased images from its training set."
