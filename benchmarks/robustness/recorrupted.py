"""Corrupted CIFAR-10 to choose settings by: what is tested are images that nobody trains on."""

from __future__ import annotations

from typing import ClassVar

from online_debias.data import CorruptedCIFAR10, Images

ROWS = slice(45000, 50000)  # of CIFAR-10's training images; the first ones train


class RecorruptedCIFAR10(CorruptedCIFAR10):
    """Corrupted CIFAR-10 whose test images are its last training images, each corruption alike.

    Settings chosen by these are chosen without a look at a test image, though with bias labels.
    """

    summary: ClassVar[str] = "Corrupted CIFAR-10, tested on unbiased images from its training set."

    def test(self) -> Images:
        """5,000 images, unbiased."""
        return self._build("held out", ROWS, self._unbiased)
