"""Digits to choose settings by, recoloured evenly: what is tested are no test images."""

from __future__ import annotations

from typing import ClassVar

from online_debias.data import BiasedDigits, ColoredMNIST, Images

ROWS = slice(55000, 60000)  # of MNIST's training images; the first ones train


class RecolouredDigits(BiasedDigits):
    """Biased digits whose test images are those that validate, each colour as often as any other.

    Settings chosen by these are chosen without a look at a test image, though with bias labels.
    """

    summary: ClassVar[str] = "Biased digits, tested on validation images that were recoloured."

    def test(self) -> Images:
        """400 images of the 50 originals that validate, unbiased."""
        return self._build("validation", 1 / len(self.classes))


class RecolouredMNIST(ColoredMNIST):
    """Coloured MNIST whose test images are its last training images, each colour alike."""

    summary: ClassVar[str] = "Coloured MNIST, tested on unbiased images from its training set."

    def test(self) -> Images:
        """5,000 images, unbiased."""
        return self._build("held out", ROWS, self._unbiased)
