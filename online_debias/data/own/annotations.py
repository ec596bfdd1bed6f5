"""Tables of annotations beside image files, separated by commas or by blanks."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from online_debias.data.own.splits import NAMES
from online_debias.data.reading.files import Listing

V = TypeVar("V")

SPLITS = {"0": "train", "1": "validation", "2": "test", **NAMES}


@dataclass(frozen=True)
class Table:
    """Some columns of a table.

    Attributes:
        path: Where it was read from, for messages.
        columns: Name -> cells, all equally many.

    Example:
        >>> table = Table(Path("t.csv"), {"file": ["a.png", "b.png"], "y": ["0", "1"]})
        >>> table["file"], table.numbers("y", 2)
        (['a.png', 'b.png'], [0, 1])
    """

    path: Path
    columns: dict[str, list[str]]

    def __getitem__(self, column: str) -> list[str]:
        """The cells of a column."""
        return self.columns[column]

    def numbers(self, column: str, n_values: int) -> list[int]:
        """The cells as numbers below `n_values`; -1, which CelebA has for no, counts as 0.

        Raises:
            ValueError: If a cell is something else; it is named.
        """
        known = {str(value): value for value in range(n_values)} | {"-1": 0}
        return self._translated(column, known, f"a number from 0 to {n_values - 1}")

    def divide(self, everything: Listing, column: str) -> dict[str, Listing]:
        """Listings of `"train"`, `"validation"` and `"test"`, as the cells of `column` say.

        Raises:
            ValueError: If a cell is not 0, 1, 2, train, val or test, or a split is empty.
        """
        splits = self._translated(column, SPLITS, "0, 1, 2, train, val or test")
        listings = {}
        for name in ("train", "validation", "test"):
            rows = [row for row, split in enumerate(splits) if split == name]
            if not rows:
                raise ValueError(f"'{self.path}' has no row for {name} in {column}.")
            listings[name] = everything.rows(rows)
        return listings

    def _translated(self, column: str, known: dict[str, V], expected: str) -> list[V]:
        for row, cell in enumerate(self.columns[column]):
            if cell not in known:
                raise ValueError(
                    f"'{self.path}' says {cell!r} for {column} in row {row + 1}: it must be "
                    f"{expected}."
                )
        return [known[cell] for cell in self.columns[column]]


def read_rows(path: Path) -> list[list[str]]:
    """The cells of a file, row by row; separated by blanks if its first line has no comma.

    Raises:
        ValueError: If the file is empty or no text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"'{path}' is not a text file: fetch it again.") from None
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise ValueError(f"'{path}' is empty: fetch it again.")
    if any("," in line for line in lines[:3]):
        return [[cell.strip() for cell in row] for row in csv.reader(lines)]
    return [line.split() for line in lines]


def as_table(path: Path, rows: list[list[str]], columns: Sequence[str]) -> Table:
    """Takes `columns` out of rows of cells, of which the first names the columns.

    Raises:
        ValueError: If a column is missing, or a row is longer or shorter than the first one.
    """
    header, *body = rows
    missing = [name for name in columns if name not in header]
    if missing:
        raise ValueError(
            f"'{path}' has no column {', '.join(missing)}; it has {_shortened(header)}."
        )
    for row, cells in enumerate(body):
        if len(cells) != len(header):
            raise ValueError(
                f"'{path}' has {len(cells)} cells in row {row + 1}, but {len(header)} columns: "
                f"fetch it again."
            )
    places = {name: header.index(name) for name in columns}
    return Table(path, {name: [cells[i] for cells in body] for name, i in places.items()})


def _shortened(names: list[str]) -> str:
    return ", ".join(names[:50]) + (" and more" if len(names) > 50 else "")
