"""The layout with `0.5pct/{align,conflict}`: PNG files that carry both labels in their names."""

from __future__ import annotations

import re
from pathlib import Path

from online_debias.data.reading.files import Listing
from online_debias.data.reading.layouts import is_image

LABELS = re.compile(r"_(\d+)_(\d+)$")  # at the end of the name, before the suffix


def pct_tree(name: str) -> str:
    """The tree of files that is looked for, to be printed.

    Example:
        >>> print(pct_tree("cmnist"))
        cmnist/
            0.5pct/                         (or 1pct, 2pct, 5pct)
                align/<class>/*_<class>_<bias>.png
                conflict/<class>/*_<class>_<bias>.png
                valid/                      (or cmnist/valid/)
            test/
    """
    return (
        f"{name}/\n"
        "    0.5pct/                         (or 1pct, 2pct, 5pct)\n"
        "        align/<class>/*_<class>_<bias>.png\n"
        "        conflict/<class>/*_<class>_<bias>.png\n"
        f"        valid/                      (or {name}/valid/)\n"
        "    test/"
    )


def find_pct(root: Path, name: str, skew: float) -> Path | None:
    """Returns the folder of one share below `root`, such as `cmnist/0.5pct`, or None.

    From the release of "Learning Debiased Representation via Disentangled Feature Augmentation"
    (Lee et al., NeurIPS 2021).

    Args:
        root: The folder that holds `name`, or that folder itself.
        name: `"cmnist"`, `"cifar10c"` or `"bffhq"`.
        skew: Share of bias-conflicting images; .005 is `0.5pct`.
    """
    for folder in (root / name, root):
        share = folder / f"{100 * skew:g}pct"
        if (share / "align").is_dir():
            return share
    return None


def list_pct(root: Path, share: Path, split: str, classes: tuple[str, ...]) -> Listing | None:
    """Lists a split, in the order of the names.

    Args:
        root: What the paths are relative to.
        share: What `find_pct` found.
        split: `"train"`, `"valid"` or `"test"`; the latter two lie in `share` or beside it, with
            or without a folder for each class.
        classes: The names of the classes, by number.

    Returns:
        The files with their labels, or None if the split has none.

    Raises:
        ValueError: If a file's name does not tell its labels, or they are out of range.
    """
    if split == "train":
        folders = [share / "align", share / "conflict"]
    else:
        places = share / split, share.parent / split
        folders = [folder for folder in places if folder.is_dir()][:1]
    files = sorted(path for folder in folders for path in folder.rglob("*.*") if is_image(path))
    labels = [_labels(path, len(classes)) for path in files]
    if not files:
        return None
    paths = [path.relative_to(root).as_posix() for path in files]
    return Listing(paths, [target for target, _ in labels], [bias for _, bias in labels], classes)


def _labels(path: Path, n_classes: int) -> tuple[int, int]:
    found = LABELS.search(path.stem)
    if found is None:
        raise ValueError(
            f"'{path}' must end in _<class>_<bias> before the suffix: remove it or fetch it again."
        )
    target, bias = int(found[1]), int(found[2])
    if max(target, bias) >= n_classes:
        raise ValueError(
            f"'{path}' names class {target} and bias {bias}, but both must be below {n_classes}: "
            f"remove it or fetch it again."
        )
    return target, bias
