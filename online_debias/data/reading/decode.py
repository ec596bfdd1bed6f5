"""One image file, of whatever kind, as RGB of one size."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO
from warnings import catch_warnings, simplefilter

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

# EPS runs Ghostscript, and of the others Pillow reads no more than the header.
NOT_DECODED = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})


@cache
def suffixes() -> frozenset[str]:
    """Return the suffixes of image files, in lower case and with the dot.

    Example:
        >>> {".jpg", ".jpeg", ".png", ".webp", ".tif"} <= suffixes(), ".txt" in suffixes()
        (True, False)
    """
    known = Image.registered_extensions()
    return frozenset(suffix for suffix, kind in known.items() if kind in _kinds())


@contextmanager
def without_warnings() -> Iterator[None]:
    """Around `decode`: what Pillow warns of is converted, or else refused by name.

    Filters belong to the process, so this goes around a pool of threads and not into one.
    """
    with catch_warnings():
        simplefilter("ignore")
        yield


def decode(path: Path, size: int) -> Tensor:
    """Read one image file.

    The shorter side becomes `size` (antialiased), the longer one is cropped to its centre; what the
    camera says about its orientation is respected. `to_rgb` says what becomes of images that are
    not RGB. Of an animation the first frame is read.

    Args:
        path: the file.
        size: pixels on a side.

    Returns:
        `[3, size, size]` uint8.

    Raises:
        ValueError: it is missing, damaged, no image, or larger than Pillow's limit against
            decompression bombs; the message is the reason alone, without the path.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "wide.png"
        ...     Image.new("L", (40, 20), 128).save(path)
        ...     pixels = decode(path, 8)
        >>> pixels.shape, pixels.unique().tolist()
        (torch.Size([3, 8, 8]), [128])
    """
    try:
        str(path).encode()  # scores and reports name it in UTF-8
        if not path.exists():
            raise ValueError("there is no such file")
        if not path.is_file():
            raise ValueError("is a folder" if path.is_dir() else "is no ordinary file")
        with path.open("rb") as file:
            return read(file, size)
    except UnicodeEncodeError:
        raise ValueError("has a name that is not UTF-8") from None
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None


def read(file: BinaryIO, size: int | None) -> Tensor:
    """Read one image from an open file, as `decode` does; or with `size` None at its own size.

    Raises:
        ValueError: why it cannot be read.
    """
    try:
        with Image.open(file, formats=_kinds()) as image:
            if size is not None:
                image.draft(None, (2 * size, 2 * size))  # a JPEG is scaled while it is decoded
            return fit(to_rgb(ImageOps.exif_transpose(image)), size)
    except UnidentifiedImageError:
        empty = file.seek(0, os.SEEK_END) == 0
        raise ValueError("is empty" if empty else "is no image, or its start is damaged") from None
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise ValueError(f"has more than {limit:,} pixels, Pillow's limit") from None
    except Exception as error:  # on damaged bytes a decoder may raise anything
        text = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(text[:200]) from None


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the image as RGB, whatever its mode.

    Transparent pixels show white. 16-bit grey is scaled to 8 bit; so are 32-bit integers from 0
    to 65535. Floats from 0 to 1 or from 0 to 255 are taken as such. Integers and floats beyond
    are stretched from their least to their largest value.

    Raises:
        ValueError: it holds floats that are not finite.

    Example:
        >>> to_rgb(Image.new("RGBA", (1, 1), (255, 0, 0, 0))).getpixel((0, 0))
        (255, 255, 255)
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = Image.fromarray(_to_8_bit(np.asarray(image)))
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(opaque, image.convert("RGBA"))
    return image.convert("RGB")


def fit(image: Image.Image, size: int | None) -> Tensor:
    """Scale an RGB image's shorter side to `size` and crop its centre: `[3, size, size]` uint8.

    With `size` None it stays as it is: `[3, H, W]`.
    """
    if size is None:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    # Cropping first: a thin strip, scaled whole, might not fit into memory.
    square = image.resize(
        (size, size),
        Image.Resampling.BILINEAR,
        box=(left, top, left + side, top + side),
        reducing_gap=3.0,
    )
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)


@cache
def _kinds() -> tuple[str, ...]:
    Image.init()
    return tuple(kind for kind in Image.ID if kind not in NOT_DECODED)


def _to_8_bit(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if not np.isfinite(values).all():
        raise ValueError("holds values that are not finite")
    ranges = (1, 255) if values.dtype.kind == "f" else (65535,)
    low, high = float(values.min()), float(values.max())
    for top in ranges:
        if low >= 0 and high <= top:
            low, high = 0.0, float(top)
            break
    scaled = (values.astype(np.float64) - low) * (255 / max(high - low, 1e-12))
    return np.rint(scaled).astype(np.uint8)
