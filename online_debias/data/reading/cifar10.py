"""Plain CIFAR-10, from a folder for each class or from the binary version."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from online_debias.data.reading.files import Listing, load
from online_debias.data.reading.layouts import is_image, not_found

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32
TREES = (
    "cifar10/                            (or ROOT/ itself)\n"
    "    train/<class>/*.png             (or .jpg; classes airplane to truck)\n"
    "    test/<class>/*.png",
    "cifar-10-batches-bin/               (or ROOT/ itself)\n"
    "    data_batch_1.bin                (to data_batch_5.bin)\n"
    "    test_batch.bin",
)


class Cifar10:
    """CIFAR-10 (Krizhevsky, 2009) without a bias, as it lies on disk.

    Images of class folders are put in the order of their names, whatever their folder, so that the
    first ones are of all classes.

    Args:
        root: Folder with one of the two layouts; the pickled version is not read.
        tree: What to show if nothing is found.

    Raises:
        FileNotFoundError: If neither is below `root`, with the expected tree.
        ValueError: If only the pickled version is there, or the folders are of other classes.

    Example:
        >>> Cifar10(Path("data"), "").targets("test").bincount()  # doctest: +SKIP
        tensor([1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000])
    """

    def __init__(self, root: Path, tree: str) -> None:
        self._root = root
        self._batches: dict[str, list[Path]] = {}
        self._listings: dict[str, Listing] = {}
        for folder in (root / "cifar-10-batches-bin", root):
            if (folder / "test_batch.bin").is_file():
                train = sorted(folder.glob("data_batch_*.bin"))
                self._batches = {"train": train, "test": [folder / "test_batch.bin"]}
                return
        for folder in (root / "cifar10", root):
            if (folder / "train" / CLASSES[0]).is_dir() and (folder / "test").is_dir():
                self._listings = {name: _list(root, folder / name) for name in ("train", "test")}
                return
        for folder in (root / "cifar-10-batches-py", root):
            if (folder / "test_batch").is_file():
                raise ValueError(
                    f"'{folder}' is the pickled version of CIFAR-10, which is not read because "
                    f"pickles can run code: unpack cifar-10-binary.tar.gz beside it."
                )
        raise not_found(root, "CIFAR-10", tree)

    def targets(self, split: str) -> Tensor:
        """The classes `[N]` int64 of `"train"` or `"test"`.

        Raises:
            ValueError: If a file is damaged; it is named.
        """
        if self._listings:
            return torch.tensor(self._listings[split].targets)
        return self._rows(split)[:, 0].long()

    def images(self, split: str, rows: slice) -> Tensor:
        """Some of the images of `"train"` or `"test"`: `[N, 3, 32, 32]` uint8.

        Raises:
            ValueError: If a file is damaged; it is named.
        """
        if self._listings:
            listing = self._listings[split]
            chosen = range(len(listing.paths))[rows]
            return load(self._root, listing.rows(chosen), SIDE).images
        return self._rows(split)[rows, 1:].reshape(-1, 3, SIDE, SIDE).clone()

    def _rows(self, split: str) -> Tensor:
        """A row an image: its class, then all red, all green and all blue values."""
        batches = []
        for path in self._batches[split]:
            values = torch.frombuffer(bytearray(path.read_bytes() or b"\0"), dtype=torch.uint8)
            length = 1 + 3 * SIDE * SIDE
            if len(values) % length or int(values[::length].max()) >= len(CLASSES):
                raise ValueError(
                    f"'{path}' must hold rows of {length} bytes that begin with a class from 0 to "
                    f"{len(CLASSES) - 1}: fetch it again."
                )
            batches.append(values.view(-1, length))
        return torch.cat(batches)


def _list(root: Path, folder: Path) -> Listing:
    names = {path.name for path in folder.iterdir() if path.is_dir()}
    names = {name for name in names if not name.startswith(".")}
    odd = sorted(names.symmetric_difference(CLASSES))
    if odd:
        raise ValueError(
            f"'{folder}' must have a folder for each class of CIFAR-10 and no other, "
            f"but {', '.join(odd)} is missing or too much."
        )
    found = [
        (path.name, label, path)
        for label, name in enumerate(CLASSES)
        for path in (folder / name).iterdir()
        if is_image(path)
    ]
    found.sort(key=lambda entry: (len(entry[0]), *entry[:2]))  # 2.png before 10.png
    paths = [path.relative_to(root).as_posix() for _, _, path in found]
    return Listing(paths, [label for _, label, _ in found], None, CLASSES)
