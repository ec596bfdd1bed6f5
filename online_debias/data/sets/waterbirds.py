"""Waterbirds: birds of the water and of the land before water and land."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from online_debias.data.own.annotations import as_table, read_rows
from online_debias.data.own.listed import Listed
from online_debias.data.reading.files import Damaged, Listing
from online_debias.data.reading.layouts import not_found

FOLDER = "waterbird_complete95_forest2water2"
COLUMNS = ("img_filename", "y", "split", "place")


class Waterbirds(Listed):
    """Photographs of birds pasted before landscapes: 95 % of the training birds are at home.

    From "Distributionally Robust Neural Networks for Group Shifts" (Sagawa et al., ICLR 2020). The
    bias is the landscape, 0 land and 1 water, as the class is 0 landbird and 1 waterbird. In the
    validation and test sets half of each class is before the other landscape: validation is *not*
    biased as training is, so to choose a model by it uses what the training set does not tell.

    Args:
        root: Folder that holds `expected_tree`, or the inner folder itself.
        size: Pixels a side: the shorter side is scaled to it, the middle is cut out.
        damaged: Refuse when images cannot be read, or skip these.

    Raises:
        FileNotFoundError: If `metadata.csv` is missing, with the expected tree.
        ValueError: If it lacks a column, a split is empty, or a value is not among those
            expected; the row is named.

    Example:
        >>> Waterbirds("data", size=96).train().images.shape  # doctest: +SKIP
        torch.Size([4795, 3, 96, 96])
    """

    summary: ClassVar[str] = "Birds before the wrong landscape (Sagawa et al., 2020)."
    expected_tree: ClassVar[str] = (
        f"ROOT/\n"
        f"  {FOLDER}/     (or ROOT/ itself)\n"
        f"    metadata.csv                          (img_filename, y, split, place)\n"
        f"    <folder of a species>/*.jpg"
    )
    classes: tuple[str, ...] = ("landbird", "waterbird")

    def __init__(self, root: str | Path, size: int = 64, damaged: Damaged = "refuse") -> None:
        root = Path(root).expanduser()
        inner = root / FOLDER if (root / FOLDER / "metadata.csv").is_file() else root
        path = inner / "metadata.csv"
        if not path.is_file():
            raise not_found(root, "metadata.csv of Waterbirds", self.expected_tree)
        table = as_table(path, read_rows(path), COLUMNS)
        everything = Listing(
            table["img_filename"], table.numbers("y", 2), table.numbers("place", 2), self.classes
        )
        super().__init__(inner, table.divide(everything, "split"), size, damaged)
