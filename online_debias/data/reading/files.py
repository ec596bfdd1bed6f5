"""Image files in memory: all decoded before training, the damaged ones named in one report."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from rich import progress
from rich.console import Console
from torch import Tensor

from online_debias.data.images import Images
from online_debias.data.reading.decode import decode, without_warnings
from online_debias.errors import positive

Damaged = Literal["refuse", "skip"]

LONG = 2000  # files; decoding more of them shows a bar
CHUNK = 500  # files between two looks at Ctrl-C
NAMED = 20  # damaged files named in a report


@dataclass(frozen=True)
class Listing:
    """Which files a split has, in order.

    Attributes:
        paths: of the images, relative to a root, with forward slashes.
        targets: the class of each.
        bias: the value of the bias attribute of each, None where nobody annotated it.
        classes: the names of the classes.
    """

    paths: list[str]
    targets: list[int]
    bias: list[int] | None
    classes: tuple[str, ...]

    def rows(self, kept: Sequence[int]) -> Listing:
        """Return the listing of these rows alone, in their order."""
        bias = None if self.bias is None else [self.bias[row] for row in kept]
        paths, targets = [self.paths[row] for row in kept], [self.targets[row] for row in kept]
        return Listing(paths, targets, bias, self.classes)


def load(
    root: Path,
    listing: Listing,
    size: int,
    damaged: Damaged = "refuse",
    beside: Sequence[Listing] = (),
) -> Images:
    """Decode all files of a listing; see `decode.decode` for what becomes of each.

    Args:
        root: what the paths are relative to.
        listing: the files, in order.
        size: pixels on a side.
        damaged: refuse when files cannot be read, or skip these and say so on standard error.
        beside: listings of the other splits; looked through when files are refused, so that one
            report names them all.

    Returns:
        RGB images `[N, 3, size, size]`, with the listing's paths.

    Raises:
        ValueError: files cannot be read, named in one report; with `skip`, if a class has no
            image left or more than half of all are damaged; the images do not fit into memory;
            `size` is not above 0, or `damaged` is another word.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("a.png", "b.png"):
        ...         Image.new("RGB", (8, 8)).save(Path(folder) / name)
        ...     listing = Listing(["a.png", "b.png"], [0, 1], None, ("cat", "dog"))
        ...     load(Path(folder), listing, size=4).images.shape
        torch.Size([2, 3, 4, 4])
    """
    positive(size=size)
    if damaged not in ("refuse", "skip"):
        raise ValueError(f"damaged is {damaged!r}, expected 'refuse' or 'skip'.")
    check_memory(len(listing.paths), size, size)
    pixels = torch.empty(len(listing.paths), 3, size, size, dtype=torch.uint8)
    reasons = _decode_all(root, listing.paths, size, pixels)
    if reasons and damaged == "refuse":
        n_files = len(listing.paths)
        for other in beside:
            n_files += len(other.paths)
            reasons |= _decode_all(root, other.paths, size)
        raise ValueError(
            f"{report(reasons, n_files)}\nRepair or remove these files, or leave them out with "
            "`damaged: skip` (--data.damaged skip)."
        )
    if reasons:
        kept = [row for row, path in enumerate(listing.paths) if path not in reasons]
        _check_left(listing, kept, reasons)
        print(f"{report(reasons, len(listing.paths))}\nThey are left out.", file=sys.stderr)
        listing, pixels = listing.rows(kept), pixels[kept]
    bias = None if listing.bias is None else torch.tensor(listing.bias, dtype=torch.int64)
    targets = torch.tensor(listing.targets, dtype=torch.int64)
    return Images(pixels, targets, bias, listing.classes, tuple(listing.paths))


def check_memory(n_images: int, height: int, width: int) -> None:
    """Refuse images that do not fit into the memory that is available.

    Raises:
        ValueError: naming both numbers of bytes.
    """
    needed, there = n_images * 3 * height * width, _available_memory()
    if needed > there:
        raise ValueError(
            f"{n_images:,} images of {height} x {width} pixels need {needed / 1e9:.1f} GB of "
            f"memory, but {there / 1e9:.1f} GB are available; choose a smaller --data.size, or "
            "attach the callbacks to your own loop (docs/loops.md)."
        )


def report(reasons: dict[str, str], n_files: int) -> str:
    """Return the report of images that cannot be read: the first lines name each and why."""
    lines = [f"  {path}: {reason}" for path, reason in list(reasons.items())[:NAMED]]
    if len(reasons) > NAMED:
        lines.append(f"  and {len(reasons) - NAMED:,} more")
    return "\n".join([f"{len(reasons):,} of {n_files:,} images cannot be read:", *lines])


def _decode_all(
    root: Path, paths: Sequence[str], size: int, pixels: Tensor | None = None
) -> dict[str, str]:
    """Decode into `pixels`, if given; return why each damaged file cannot be read."""

    def decode_one(row: int) -> str | None:
        try:
            found = decode(root / paths[row], size)
        except ValueError as error:
            return str(error)
        if pixels is not None:
            pixels[row] = found
        return None

    reasons: dict[str, str] = {}
    console = Console(stderr=True)
    bar = progress.Progress(
        *progress.Progress.get_default_columns(),
        console=console,
        disable=len(paths) <= LONG or not console.is_interactive,
    )
    with without_warnings(), bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        task = bar.add_task("reading images", total=len(paths))
        for start in range(0, len(paths), CHUNK):
            rows = range(start, min(start + CHUNK, len(paths)))
            for row, reason in zip(rows, pool.map(decode_one, rows), strict=True):
                if reason is not None:
                    reasons[paths[row]] = reason
            bar.advance(task, len(rows))
    return reasons


def _check_left(listing: Listing, kept: Sequence[int], reasons: dict[str, str]) -> None:
    if 2 * len(kept) < len(listing.paths):
        raise ValueError(
            f"{report(reasons, len(listing.paths))}\nThat is more than half, too many to skip; "
            "repair or remove these files, or check the folder."
        )
    lost = set(listing.targets) - {listing.targets[row] for row in kept}
    if lost:
        names = ", ".join(repr(listing.classes[target]) for target in sorted(lost))
        raise ValueError(
            f"{report(reasons, len(listing.paths))}\nWithout these, no image is left of {names}; "
            "repair them, or remove the class."
        )


def _available_memory() -> int:
    """Bytes that a process can still get; all there are where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
