"""Digits to choose settings by: what is tested are validation images, recoloured evenly."""

from __future__ import annotations

from typing import ClassVar

from online_debias.data import BiasedDigits, Images


class RecolouredDigits(BiasedDigits):
    """Biased digits whose test images are those that validate, each colour as often as any other.

    Settings chosen by these are chosen without a look at a test image, though with bias labels.
    """

    summary: ClassVar[str] = "Biased digits, tested on validation images that were recoloured."

    def test(self) -> Images:
        """400 images of the 50 originals that validate, unbiased."""
        return self._build("validation", 1 / len(self.classes))
