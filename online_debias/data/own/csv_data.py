"""Images that a CSV file lists."""

from __future__ import annotations

import csv
import io
import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from online_debias.data.own.listed import Listed
from online_debias.data.own.numbering import in_order, number_bias, tidy
from online_debias.data.own.splits import NAMES, check_shares, hold_out
from online_debias.data.reading.files import Damaged, Listing
from online_debias.errors import positive

TREE = """\
ROOT/
  metadata.csv   (or the only other .csv file, or what `file` says), a line an image:
                   path,target,bias,split
                   images/1.jpg,cat,sofa,train
                   images/2.jpg,dog,lawn,test
                 bias and split may be missing; split is train, validation (val, valid) or test
  images/1.jpg   (paths are relative to ROOT, or absolute)"""


class CSVData(Listed):
    """Your own images, in a table with the columns `path,target[,bias][,split]`.

    Columns may come in any order and further ones are passed over; commas, semicolons or tabs
    separate them. Targets and bias values are words or numbers. Classes are numbered in the order
    of their names, or by value if all are whole numbers.

    `bias == target` has to mean bias-aligned, so a bias value that is the name of a class has that
    class's number. Other values are matched to the classes by what goes together most often in the
    training images; `numbering.number_bias` has the rules. Without the column there are no group
    accuracies.

    A split that no line names is held out of the training images: a share of each class, so as
    biased as the rest. `decode.decode` says what becomes of each image.

    Args:
        root: folder with the CSV file, to which paths are relative.
        file: name of the CSV file; metadata.csv or the only one in `root` when None.
        size: pixels on a side: the shorter side is scaled to it, then the centre is cropped.
        validation: share of each class held out if no line says `validation`; 0 is none.
        test: share of each class held out if no line says `test`.
        damaged: refuse when images cannot be read, or skip these and name them.
        seed: decides which images are held out.

    Raises:
        FileNotFoundError: there is no such folder or file, or several to choose from.
        ValueError: a column is missing, or a line cannot be used, which is named by its number;
            images are damaged, all named in one report; or an argument is out of range.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as root:
        ...     with Path(root, "birds.csv").open("w") as file:
        ...         print("path,target,bias", file=file)
        ...         for number in range(20):
        ...             Image.new("L", (8, 8)).save(Path(root, f"{number}.png"))
        ...             words = ("cow,wood", "gull,sea")[number % 2]
        ...             print(f"{number}.png,{words}", file=file)
        ...     train = CSVData(root, size=4).train()
        >>> train.classes, len(train), int(train.conflicting.sum())
        (('cow', 'gull'), 14, 0)
    """

    summary: ClassVar[str] = "Your own images, listed in a CSV file."
    expected_tree: ClassVar[str] = TREE

    def __init__(
        self,
        root: str | Path,
        file: str | None = None,
        size: int = 64,
        validation: float = 0.1,
        test: float = 0.2,
        damaged: Damaged = "refuse",
        seed: int = 0,
    ) -> None:
        positive(size=size)
        shares = {"validation": validation, "test": test}
        check_shares(shares)
        place = Path(root).expanduser()
        self.file = _find(place, file)
        lines = _read(self.file)
        known = [line.target for line in lines if line.split in (None, "train")]
        self.classes = in_order(known)
        if len(self.classes) < 2:
            raise ValueError(
                f"'{self.file}' has {len(self.classes)} classes among its training images "
                f"({', '.join(self.classes) or 'there is none'}); expected at least two."
            )
        for line in lines:
            if line.target not in self.classes:
                raise ValueError(
                    f"'{self.file}', line {line.number}: target {line.target!r} is that of no "
                    f"training image; expected one of {', '.join(self.classes)}."
                )
        splits = self._divide(lines, shares, seed)
        targets = [self.classes.index(line.target) for line in lines]
        values = [line.bias for line in lines if line.bias is not None]
        bias = number_bias(values, targets, self.classes, splits["train"]) if values else None
        whole = Listing([line.path for line in lines], targets, bias, self.classes)
        listings = {name: whole.rows(rows) for name, rows in splits.items()}
        super().__init__(place, listings, size, damaged)

    def _divide(
        self, lines: list[_Line], shares: dict[str, float], seed: int
    ) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for row, line in enumerate(lines):
            found.setdefault(line.split or "train", []).append(row)
        for name, rows in found.items():
            without = set(self.classes) - {lines[row].target for row in rows}
            if without:
                raise ValueError(
                    f"'{self.file}' has no {name} image of class {min(without)!r}; every split "
                    "needs each class."
                )
        missing = {name: share for name, share in shares.items() if name not in found}
        whole = found["train"]
        targets = [self.classes.index(lines[row].target) for row in whole]
        held = hold_out(targets, self.classes, missing, seed)
        return found | {name: [whole[row] for row in rows] for name, rows in held.items()}


@dataclass(frozen=True)
class _Line:
    number: int
    path: str
    target: str
    bias: str | None
    split: str | None


def _find(root: Path, file: str | None) -> Path:
    if not root.is_dir():
        raise FileNotFoundError(f"root '{root}' is not a folder: give one like this.\n{TREE}")
    if file is not None:
        if not (root / file).is_file():
            raise FileNotFoundError(f"There is no file '{root / file}'; expected:\n{TREE}")
        return root / file
    if (root / "metadata.csv").is_file():
        return root / "metadata.csv"
    found = sorted(path for path in root.iterdir() if path.suffix.lower() == ".csv")
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise FileNotFoundError(
            f"'{root}' has {len(found)} CSV files ({names}); choose one with --data.file, expected:"
            f"\n{TREE}"
        )
    return found[0]


def _read(path: Path) -> list[_Line]:
    """The lines of the table, checked one by one."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' is not UTF-8 text ({error}); save it as UTF-8.") from None
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    lines: list[_Line] = []
    first_named: dict[str, int] = {}
    try:
        columns = [name.strip().lower() for name in next(rows, [])]
        _check_columns(path, columns)
        for cells in rows:
            if not cells:
                continue  # a blank line
            line = _line(f"'{path}', line {rows.line_num}", rows.line_num, columns, cells)
            if line.path in first_named:
                raise ValueError(
                    f"'{path}', line {line.number}: {line.path} is already in line "
                    f"{first_named[line.path]}; remove one of them."
                )
            first_named[line.path] = line.number
            lines.append(line)
    except csv.Error as error:
        raise ValueError(f"'{path}', line {rows.line_num}: {error}; repair its quotes.") from None
    if not lines:
        raise ValueError(f"'{path}' lists no images; expected a line an image below the header.")
    return lines


def _check_columns(path: Path, columns: list[str]) -> None:
    missing = [name for name in ("path", "target") if name not in columns]
    if missing:
        raise ValueError(
            f"'{path}' has no column {' and no column '.join(missing)} (it has "
            f"{', '.join(columns) or 'none'}); its first line must name path,target[,bias][,split]."
        )
    for name in ("path", "target", "bias", "split"):
        if columns.count(name) > 1:
            raise ValueError(f"'{path}' has {columns.count(name)} columns {name}; keep one.")


def _line(where: str, number: int, columns: list[str], cells: list[str]) -> _Line:
    if len(cells) != len(columns):
        raise ValueError(
            f"{where} has {len(cells)} cells, expected {len(columns)} ({', '.join(columns)}); "
            "quote cells that hold the separator."
        )
    cell = {name: text.strip() for name, text in zip(columns, cells, strict=True)}
    for name in ("path", "target", "bias", "split"):
        if cell.get(name) == "":
            raise ValueError(f"{where}: {name} is empty; fill it in, or remove the line.")
    split = cell.get("split")
    if split is not None and split.lower() not in NAMES:
        raise ValueError(f"{where}: split is {split!r}, expected train, validation or test.")
    bias = cell.get("bias")
    return _Line(
        number,
        posixpath.normpath(cell["path"].replace("\\", "/")),  # tables made on Windows
        tidy(cell["target"]),
        None if bias is None else tidy(bias),
        None if split is None else NAMES[split.lower()],
    )
