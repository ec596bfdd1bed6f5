"""A set of image files: a listing a split, decoded when it is asked for."""

from __future__ import annotations

from pathlib import Path

from online_debias.data.images import Images
from online_debias.data.reading.files import Damaged, Listing, load
from online_debias.data.source import Source
from online_debias.errors import positive


class Listed(Source):
    """A data set whose splits are listings of files.

    Args:
        root: What the paths in the listings are relative to.
        listings: `"train"`, `"test"` and, if there is one, `"validation"`.
        size: Pixels a side: the shorter side is scaled to it, the middle is cut out.
        damaged: Refuse when images cannot be read, or skip these.

    Raises:
        ValueError: If `size` is not above 0 or `damaged` is another word.
    """

    def __init__(
        self, root: Path, listings: dict[str, Listing], size: int, damaged: Damaged
    ) -> None:
        positive(size=size)
        if damaged not in ("refuse", "skip"):
            raise ValueError(f"damaged={damaged!r} must be refuse or skip.")
        self.root = root
        self.listings = listings
        self.size = size
        self.damaged = damaged
        self.classes = listings["train"].classes

    def train(self) -> Images:
        """The training images."""
        return self._load("train")

    def validation(self) -> Images | None:
        """The validation images, if there are any."""
        return self._load("validation") if "validation" in self.listings else None

    def test(self) -> Images:
        """The test images."""
        return self._load("test")

    def _load(self, split: str) -> Images:
        beside = [listing for name, listing in self.listings.items() if name != split]
        return load(self.root, self.listings[split], self.size, self.damaged, beside)
