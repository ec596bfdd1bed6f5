"""BAR: photographs of actions at their usual places, and at unusual ones to test on."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from online_debias.data.own.listed import Listed
from online_debias.data.own.splits import hold_out
from online_debias.data.reading.files import Damaged, Listing
from online_debias.data.reading.layouts import is_image, join_trees, not_found


class BAR(Listed):
    """Six actions (climbing, diving, ...); the training photographs show them at usual places.

    Biased Action Recognition, from "Learning from Failure" (Nam et al., NeurIPS 2020). Two layouts
    are read. The authors' one has no bias labels: all training images are at places that go with
    the action, all test images are not, so that the plain test accuracy is the conflicting
    accuracy. A share of each training class is held out for validation, as biased as training is.

    The layout of "Revisiting the Importance of Amplifying Bias for Debiasing" (Lee et al., AAAI
    2023) keeps the few training images at other places apart, and has its own validation set. Its
    training images get bias labels: the class where the place goes with the action, the next class
    where it does not (which place that is, nobody says). Validation and test have none.

    Args:
        root: Folder that holds `BAR` (or `bar`), or that folder itself.
        size: Pixels a side: the shorter side is scaled to it, the middle is cut out.
        validation: Share of each training class held out; of the first layout only.
        skew: Share of conflicting training images, of the second layout only: .01 or .05.
        damaged: Refuse when images cannot be read, or skip these.
        seed: Decides which images are held out.

    Raises:
        FileNotFoundError: If the files are missing, with the expected tree.
        ValueError: For an argument out of range, a file whose name does not begin with its class,
            or test classes that training does not have.

    Example:
        >>> BAR("data", size=96).classes[:2]  # doctest: +SKIP
        ('climbing', 'diving')
    """

    summary: ClassVar[str] = "Actions at unusual places; no bias labels (Nam et al., 2020)."
    expected_tree: ClassVar[str] = join_trees(
        "BAR/                            (or bar/, or ROOT/ itself)\n"
        "    train/<class>_<number>.jpg\n"
        "    test/<class>_<number>.jpg",
        "bar/\n"
        "    train/align/<class>/*.jpg\n"
        "    train/conflict/1pct/<class>/*.jpg   (or 5pct)\n"
        "    valid/<class>/*.jpg\n"
        "    test/<class>/*.jpg",
    )

    def __init__(
        self,
        root: str | Path,
        size: int = 128,
        validation: float = 0.1,
        skew: float = 0.01,
        damaged: Damaged = "refuse",
        seed: int = 0,
    ) -> None:
        if not 0 <= validation < 1:
            raise ValueError(f"validation={validation} must be from 0 to below 1: a share.")
        root = Path(root).expanduser()
        inner = next((root / name for name in ("BAR", "bar") if (root / name).is_dir()), root)
        if (inner / "train" / "align").is_dir():
            listings = _with_folders(inner, f"{100 * skew:g}pct")
        else:
            listings = _flat(inner, validation, seed)
        for name in ("train", "test"):
            if not listings[name].paths:
                raise not_found(root, f"images of BAR for {name}", self.expected_tree)
        super().__init__(inner, listings, size, damaged)


def _flat(root: Path, validation: float, seed: int) -> dict[str, Listing]:
    """The authors' layout: the class is what precedes the last underscore of a name."""
    files = {name: _images(root / name, "*") for name in ("train", "test")}
    classes = tuple(sorted({_class(path) for path in files["train"]}))
    listings = {name: _list(root, paths, classes) for name, paths in files.items()}
    train = listings["train"]
    rows = hold_out(train.targets, classes, {"validation": validation}, seed)
    return listings | {name: train.rows(kept) for name, kept in rows.items()}


def _with_folders(root: Path, share: str) -> dict[str, Listing]:
    """The layout with the conflicting training images apart, and a folder for each class."""
    aligned = _images(root / "train" / "align", "*/*")
    conflicting = _images(root / "train" / "conflict" / share, "*/*")
    if not conflicting:
        raise FileNotFoundError(
            f"'{root / 'train' / 'conflict' / share}' has no images: give another skew."
        )
    classes = tuple(sorted({path.parent.name for path in aligned}))
    train = _list(root, aligned + conflicting, classes, by_folder=True)
    n_aligned = len(aligned)
    bias = [
        target if row < n_aligned else (target + 1) % len(classes)
        for row, target in enumerate(train.targets)
    ]
    listings = {"train": Listing(train.paths, train.targets, bias, classes)}
    for name, split in (("validation", "valid"), ("test", "test")):
        files = _images(root / split, "*/*")
        if files or name == "test":
            listings[name] = _list(root, files, classes, by_folder=True)
    return listings


def _images(folder: Path, pattern: str) -> list[Path]:
    return sorted(filter(is_image, folder.glob(pattern)))


def _class(path: Path) -> str:
    name, underscore, number = path.stem.rpartition("_")
    if not (name and underscore and number.isdigit()):
        raise ValueError(
            f"'{path}' must be named <class>_<number>: remove it or fetch the set again."
        )
    return name


def _list(
    root: Path, files: list[Path], classes: tuple[str, ...], by_folder: bool = False
) -> Listing:
    targets = []
    for path in files:
        name = path.parent.name if by_folder else _class(path)
        if name not in classes:
            raise ValueError(
                f"'{path}' is of class {name!r}, but training has {', '.join(classes)} only: "
                f"remove it or fetch the set again."
            )
        targets.append(classes.index(name))
    return Listing([path.relative_to(root).as_posix() for path in files], targets, None, classes)
