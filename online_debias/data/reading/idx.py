"""Reads MNIST-like sets from IDX files, in the layouts people already have on disk."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

PARTS = {
    "train-images": "idx3",
    "train-labels": "idx1",
    "t10k-images": "idx3",
    "t10k-labels": "idx1",
}


def idx_tree(name: str) -> str:
    """The tree of files that `find_idx` looks for, to be printed.

    Example:
        >>> print(idx_tree("MNIST"))
        ROOT/
          MNIST/raw/                      (or ROOT/raw/, or ROOT/ itself)
            train-images-idx3-ubyte       (or .idx3-ubyte; each with or without .gz)
            train-labels-idx1-ubyte
            t10k-images-idx3-ubyte
            t10k-labels-idx1-ubyte
    """
    files = [f"    {part}-{kind}-ubyte" for part, kind in PARTS.items()]
    files[0] = f"{files[0]:<34}(or .idx3-ubyte; each with or without .gz)"
    folder = f"{f'  {name}/raw/':<34}(or ROOT/raw/, or ROOT/ itself)"
    return "\n".join(["ROOT/", folder, *files])


def find_idx(root: str | Path, name: str, download: bool = False) -> dict[str, Path]:
    """Finds the four IDX files of an MNIST-like set.

    Args:
        root: The folder to look in.
        name: The set's folder below `root` in torchvision's layout, `"MNIST"` for one.
        download: Fetch what is missing with torchvision's class of the same name.

    Returns:
        The path of each of `PARTS`.

    Raises:
        FileNotFoundError: Naming the root and what is missing, with the expected tree.
    """
    root = Path(root).expanduser()
    layouts = [_in_folder(folder) for folder in (root / name / "raw", root / "raw", root)]
    found = max(layouts, key=len)
    if len(found) == len(PARTS):
        return found
    if download:
        from online_debias.runtime.torchvision_compat import import_torchvision

        getattr(import_torchvision().datasets, name)(str(root), download=True)
        return find_idx(root, name)
    missing = ", ".join(part for part in PARTS if part not in found)
    problem = f"has no {missing} of {name}" if root.is_dir() else "is not a folder"
    raise FileNotFoundError(
        f"root '{root}' {problem}: give the folder that holds this tree, "
        f"or download=True.\n{idx_tree(name)}"
    )


def read_images(files: Mapping[str, Path], split: str) -> Tensor:
    """The gray images of `split` (`"train"` or `"t10k"`): `[N, H, W]` uint8.

    Raises:
        ValueError: If the file is damaged or holds no images; it is named.
    """
    return _read(files[f"{split}-images"], ndim=3)


def read_labels(files: Mapping[str, Path], split: str) -> Tensor:
    """The labels of `split` (`"train"` or `"t10k"`): `[N]` int64.

    Raises:
        ValueError: If the file is damaged or holds no labels; it is named.
    """
    return _read(files[f"{split}-labels"], ndim=1).long()


def _in_folder(folder: Path) -> dict[str, Path]:
    found = {}
    for (part, kind), dash, packed in product(PARTS.items(), (".", "-"), (".gz", "")):
        path = folder / f"{part}{dash}{kind}-ubyte{packed}"
        if path.is_file():
            found[part] = path  # the plain file with a dash, if there are several
    return found


def _read(path: Path, ndim: int) -> Tensor:
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(
                f"'{path}' is not a whole gzip file ({error}): fetch it again."
            ) from None
    start = 4 + 4 * ndim  # magic (0, 0, 8 for uint8, number of axes), then the axes' lengths
    if data[:4] != bytes((0, 0, 8, ndim)) or len(data) < start:
        raise ValueError(f"'{path}' is not an IDX file of {ndim}-axis uint8 data: fetch it again.")
    shape = struct.unpack(f">{ndim}I", data[4:start])
    if len(data) - start != math.prod(shape) or len(data) == start:
        raise ValueError(
            f"'{path}' holds {len(data) - start} bytes of data where its header "
            f"says {' x '.join(map(str, shape))}: fetch it again."
        )
    return torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=start).view(shape)
