"""Images as text that a page can hold, and heat drawn over them."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:  # only those who draw need it
    from PIL.Image import Image

LONGEST, LOSSLESS = 128, 64  # pixels of a thumbnail; of one that is kept without loss
WIDEST = 900  # pixels of a sheet of images
# Dark to bright, so that it is told apart without colours, too.
_HEAT = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))


def thumbnail(image: Tensor, lossless: int = LOSSLESS) -> str:
    """Return an image as a data URI, at most 128 pixels on its longer side.

    Small images are PNG, others JPEG, which takes an eighth of the room.

    Args:
        image: `[C, H, W]` uint8; of other than 1 or 3 channels their mean is shown.
        lossless: pixels up to which it is PNG.

    Example:
        >>> thumbnail(torch.zeros(3, 8, 8, dtype=torch.uint8)).partition(",")[0]
        'data:image/png;base64'
    """
    from PIL import Image

    pixels = image.cpu()
    if len(pixels) not in (1, 3):
        pixels = pixels.float().mean(0, keepdim=True).byte()
    array = pixels.permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    picture.thumbnail((LONGEST, LONGEST))
    return _uri(picture, "png" if max(picture.size) <= lossless else "jpeg")


def sheet(path: Path) -> str:
    """Return an image file as a data URI, at most 900 pixels wide.

    Raises:
        OSError: it cannot be read, or is no image.
    """
    from PIL import Image

    with Image.open(path) as picture:
        picture.load()
    picture.thumbnail((WIDEST, 4 * WIDEST))
    return _uri(picture, "png")


def overlay(image: Tensor, heat: Tensor) -> Tensor:
    """Draw heat over the grey image; a small one is enlarged first.

    Args:
        image: `[C, H, W]` uint8.
        heat: `[H, W]` in [0, 1].

    Returns:
        `[3, H', W']` uint8.
    """
    scale = max(1, LONGEST // max(image.shape[-2:]))
    grey = image.float().mean(0).div(255)
    grey = grey.repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    heat = F.interpolate(heat[None, None], grey.shape, mode="bilinear")[0, 0].clamp(0, 1)
    ramp = torch.tensor(_HEAT, dtype=torch.float32)
    place = heat * (len(ramp) - 1)
    below = place.long().clamp_max(len(ramp) - 2)
    colour = torch.lerp(ramp[below], ramp[below + 1], (place - below)[..., None])
    return (0.45 * 255 * grey + 0.55 * colour.permute(2, 0, 1)).round().byte()


def _uri(picture: Image, kind: str) -> str:
    buffer = io.BytesIO()
    if kind == "png":
        picture.save(buffer, format="png", optimize=True)
    else:
        picture.save(buffer, format="jpeg", quality=88)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
