"""CelebA: portraits, one attribute as the class and another as the bias."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from online_debias.data.own.annotations import Table, as_table, read_rows
from online_debias.data.own.listed import Listed
from online_debias.data.reading.files import Damaged, Listing
from online_debias.data.reading.layouts import join_trees, not_found

FOLDERS = ("", "celeba", "celebA", "CelebA", "celebA/data", "data")  # below the root
IMAGES = ("img_align_celeba/img_align_celeba", "img_align_celeba", "")  # below each of these
ATTRIBUTES = ("list_attr_celeba.csv", "list_attr_celeba.txt")
METADATA = ("metadata.csv", "celeba_metadata.csv", "metadata_celeba.csv")
DEFAULTS = {"y": "Blond_Hair", "place": "Male"}  # what the columns of METADATA are about


class CelebA(Listed):
    """Portraits; in training, one attribute tells much about another.

    From "Deep Learning Face Attributes in the Wild" (Liu et al., ICCV 2015); blond hair with the
    sex as its bias is due to Sagawa et al. (ICLR 2020). The class is 0 where `target` does not
    hold and 1 where it does.

    The bias label is numbered such that equal to the class means bias-aligned, and most training
    images are aligned: it is 1 where `bias` holds if target and bias agree in at least half of the
    training images, and 1 where it does *not* hold otherwise. So with hair and sex, 0 is a man
    and 1 a woman: blond men conflict, as do women who are not blond. Validation and test have the
    same association as training: look at the unbiased and the worst-group accuracy.

    Read below `root`, whichever is found first: the tables of Kaggle (also those of group DRO and
    JTT) or of torchvision, beside `img_align_celeba`; `metadata.csv` as DFR has it, which knows
    the default attributes only; or another CSV file with columns image and split and one for
    each attribute, separated by commas or blanks.

    Args:
        root: Folder with one of these; `expected_tree` shows the layouts.
        target: The attribute that is the class.
        bias: The attribute that is the bias.
        size: Pixels a side: the shorter side is scaled to it, the middle is cut out.
        damaged: Refuse when images cannot be read, or skip these.

    Raises:
        FileNotFoundError: If no table is below `root`, with the expected tree.
        ValueError: For an attribute that is not in the table, twice the same one, or a damaged
            table.

    Example:
        >>> CelebA("data", size=32).classes  # doctest: +SKIP
        ('not Blond_Hair', 'Blond_Hair')
    """

    summary: ClassVar[str] = "Portraits: hair colour and sex, or any two attributes."
    expected_tree: ClassVar[str] = join_trees(
        "celeba/                         (or celebA/data/, CelebA/, data/, ROOT/ itself)\n"
        "    list_attr_celeba.csv        (or .txt)\n"
        "    list_eval_partition.csv     (or .txt)\n"
        "    img_align_celeba/*.jpg      (or one folder deeper)",
        "celeba/\n"
        "    metadata.csv                (img_filename, y, split, place)\n"
        "    img_align_celeba/*.jpg",
    )

    def __init__(
        self,
        root: str | Path,
        target: str = "Blond_Hair",
        bias: str = "Male",
        size: int = 64,
        damaged: Damaged = "refuse",
    ) -> None:
        if target == bias:
            raise ValueError(f"target and bias are both {target!r}: they must differ.")
        root = Path(root).expanduser()
        for folder in (root / name for name in FOLDERS):
            table = _read(folder, target, bias)
            if table is not None:
                break
        else:
            raise not_found(root, "table of CelebA", self.expected_tree)
        inner = next(name for name in IMAGES if (folder / name).is_dir())
        paths = [f"{inner}/{name}" if inner else name for name in table["image"]]
        targets, values = table.numbers("target", 2), table.numbers("bias", 2)
        classes = (f"not {target}", target)
        listings = table.divide(Listing(paths, targets, values, classes), "split")
        if _goes_against(listings["train"]):
            flipped = Listing(paths, targets, [1 - value for value in values], classes)
            listings = table.divide(flipped, "split")
        super().__init__(folder, listings, size, damaged)


def _goes_against(train: Listing) -> bool:
    """Whether the attribute differs from the class more often than not."""
    assert train.bias is not None
    pairs = list(zip(train.targets, train.bias, strict=True))
    return 2 * sum(target == value for target, value in pairs) < len(pairs)


def _read(folder: Path, target: str, bias: str) -> Table | None:
    """The columns image, split, target and bias of whichever table is in `folder`."""
    for name in ATTRIBUTES:
        if (folder / name).is_file():
            return _joined(folder / name, target, bias)
    for name in METADATA:
        if (folder / name).is_file():
            columns = {"image": "img_filename", "split": "split", "target": "y", "bias": "place"}
            if (target, bias) != tuple(DEFAULTS.values()):
                raise ValueError(
                    f"'{folder / name}' knows target Blond_Hair and bias Male only, not {target} "
                    f"and {bias}: put list_attr_celeba.csv beside it."
                )
            return _renamed(folder / name, columns)
    for path in sorted(folder.glob("*.csv")):
        if {"image", "split"} <= set(read_rows(path)[0]):
            columns = {"image": "image", "split": "split", "target": target, "bias": bias}
            return _renamed(path, columns)
    return None


def _renamed(path: Path, columns: dict[str, str]) -> Table:
    table = as_table(path, read_rows(path), list(columns.values()))
    return Table(path, {new: table[old] for new, old in columns.items()})


def _joined(path: Path, target: str, bias: str) -> Table:
    """The table of attributes with the splits of the table beside it."""
    beside = path.with_name(f"list_eval_partition{path.suffix}")
    if not beside.is_file():
        raise FileNotFoundError(f"'{beside}' is missing: it tells the splits of '{path}'.")
    rows, partition = read_rows(path), read_rows(beside)
    if len(rows[0]) == 1:  # torchvision's text begins with the number of images
        del rows[0]
    if rows[1:] and len(rows[1]) == len(rows[0]) + 1:  # and names the attributes only
        rows[0].insert(0, "image_id")
    if partition[0][-1].isdigit():  # its other text has no header at all
        partition.insert(0, ["image_id", "partition"])
    table = as_table(path, rows, ["image_id", target, bias])
    splits = as_table(beside, partition, ["image_id", "partition"])
    split = dict(zip(splits["image_id"], splits["partition"], strict=True))
    lost = [name for name in table["image_id"] if name not in split]
    if lost:
        raise ValueError(
            f"'{beside}' does not tell the split of {lost[0]} and {len(lost) - 1} other images: "
            f"fetch it again."
        )
    return Table(
        path,
        {
            "image": table["image_id"],
            "split": [split[name] for name in table["image_id"]],
            "target": table[target],
            "bias": table[bias],
        },
    )
