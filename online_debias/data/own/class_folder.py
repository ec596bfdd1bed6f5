"""A folder of images with one sub-folder a class."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from online_debias.data.own.listed import Listed
from online_debias.data.own.splits import NAMES, check_shares, hold_out
from online_debias.data.reading.files import Damaged, Listing
from online_debias.data.reading.layouts import is_image
from online_debias.errors import positive

TREE = """\
ROOT/
  cat/           (a folder a class; its name is the name of the class)
    1.jpg        (at any depth; any kind of image that Pillow reads)
    2.png
  dog/
    3.jpg
or, with splits:
ROOT/
  train/cat/, train/dog/
  val/cat/, val/dog/        (or valid/, validation/; held out of train/ if there is none)
  test/cat/, test/dog/      (the same)"""


class ClassFolder(Listed):
    """Your own images, in one folder a class.

    A split without a folder is held out of the others: a share of each class, so as biased
    as the rest. Nobody annotated a bias, so there are no group accuracies. Hidden files and files
    that are no images are passed over, and so are links to folders below those of the classes.
    `decode.decode` says what becomes of each image.

    Args:
        root: folder with the images; `expected_tree` shows the layouts.
        size: pixels on a side: the shorter side is scaled to it, then the centre is cropped.
        validation: share of each class held out if there is no folder for it; 0 is none.
        test: share of each class held out if there is no folder for it.
        damaged: refuse when images cannot be read, or skip these and name them.
        seed: decides which images are held out.

    Raises:
        FileNotFoundError: `root` is not a folder, or holds no images; with the expected tree.
        ValueError: there is one class only; images lie beside the class folders; splits
            have different classes; images are damaged, all named in one report; or an argument is
            out of range.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("cat", "dog"):
        ...         (Path(root) / name).mkdir()
        ...         for number in range(10):
        ...             Image.new("RGB", (8, 8)).save(Path(root) / name / f"{number}.png")
        ...     data = ClassFolder(root, size=4)
        ...     data.classes, len(data.train()), len(data.validation()), len(data.test())
        (('cat', 'dog'), 14, 2, 4)
    """

    summary: ClassVar[str] = "Your own images, one folder a class."
    expected_tree: ClassVar[str] = TREE

    def __init__(
        self,
        root: str | Path,
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
        if not place.is_dir():
            raise FileNotFoundError(f"root '{root}' is not a folder: give one like this.\n{TREE}")
        folders = _split_folders(place)
        found = {name: _images(place, folder) for name, folder in folders.items()}
        _check_classes(found, folders)
        classes = tuple(sorted(found["train"]))
        listings = {name: _listing(images, classes) for name, images in found.items()}
        missing = {name: share for name, share in shares.items() if name not in found}
        if missing:
            whole = listings["train"]
            for name, rows in hold_out(whole.targets, classes, missing, seed).items():
                listings[name] = whole.rows(rows)
        super().__init__(place, listings, size, damaged)


def _listing(images: dict[str, list[str]], classes: tuple[str, ...]) -> Listing:
    paths = [path for name in classes for path in images[name]]
    targets = [target for target, name in enumerate(classes) for _ in images[name]]
    return Listing(paths, targets, None, classes)


def _split_folders(root: Path) -> dict[str, Path]:
    """Where each split is; train alone, and that is the root, if classes lie directly in it."""
    folders = list(_folders(root))
    found: dict[str, Path] = {}
    for folder in folders:
        split = NAMES.get(folder.name.lower())
        if split in found:
            raise ValueError(
                f"'{root}' has {found[split].name}/ and {folder.name}/, both for one split; keep "
                "one of them."
            )
        if split is not None:
            found[split] = folder
    others = [folder.name for folder in folders if folder not in found.values()]
    if "train" not in found or (len(found) == 1 and others):
        return {"train": root}  # "train" may be the class of a vehicle
    if others:
        raise ValueError(
            f"'{root}' has {others[0]}/ beside the splits {', '.join(found)}; move it elsewhere, "
            f"since what it holds belongs to no split. Expected:\n{TREE}"
        )
    return found


def _folders(root: Path) -> Iterator[Path]:
    return (x for x in sorted(root.iterdir()) if x.is_dir() and not x.name.startswith("."))


def _images(root: Path, folder: Path) -> dict[str, list[str]]:
    """Class -> its image files below `folder`, relative to `root`, in order."""
    loose = [x.name for x in folder.iterdir() if is_image(x) and not x.is_dir()]
    if loose:
        raise ValueError(
            f"'{folder}' holds {len(loose)} images beside the class folders (such as "
            f"{min(loose)}); move each into the folder of its class.\n{TREE}"
        )
    found = {x.name: sorted(_below(x)) for x in _folders(folder)}
    if not any(found.values()):
        raise FileNotFoundError(f"'{folder}' holds no images in class folders; expected:\n{TREE}")
    empty = [name for name, images in found.items() if not images]
    if empty:
        raise ValueError(
            f"The class folder '{folder / empty[0]}' holds no images; add some, or remove it."
        )
    if len(found) == 1:
        raise ValueError(
            f"'{folder}' holds one class only, {next(iter(found))!r}; expected at least two "
            f"folders:\n{TREE}"
        )
    return {
        name: [path.relative_to(root).as_posix() for path in images]
        for name, images in found.items()
    }


def _below(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise ValueError(f"The folder '{error.filename}' cannot be read: {error.strerror}.")

    for place, folders, names in os.walk(folder, onerror=refuse):
        # A folder named like an image is reported among the damaged ones.
        odd = [name for name in folders if is_image(Path(name))]
        folders[:] = [x for x in folders if x not in odd and not x.startswith(".")]
        yield from filter(is_image, (Path(place, name) for name in (*odd, *names)))


def _check_classes(found: dict[str, dict[str, list[str]]], folders: dict[str, Path]) -> None:
    for name, images in found.items():
        odd = sorted(found["train"].keys() ^ images.keys())
        if odd:
            raise ValueError(
                f"'{folders[name]}' and '{folders['train']}' must have the same class folders, "
                f"but only one of them has {', '.join(odd)}; rename or remove what is odd."
            )
