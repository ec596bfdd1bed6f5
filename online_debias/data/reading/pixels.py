"""An image in memory, of whatever form, as RGB."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from online_debias.data.reading.decode import fit, to_rgb

CHANNELS = (1, 3, 4)


def to_pixels(image: Any, size: int | None) -> Tensor:
    """Return an image of any form as RGB, `[3, size, size]` uint8.

    Args:
        image: Pillow's, or an array or a tensor `[H, W]`, `[C, H, W]` or `[H, W, C]`.
        size: pixels on a side, None to leave it as it is.

    Raises:
        ValueError: it is of another form, or holds values beyond 0 to 1 or 0 to 255; the message is
            the reason alone.

    Example:
        >>> to_pixels(np.full((2, 2), 0.5), None).tolist()[2]
        [[128, 128], [128, 128]]
    """
    if isinstance(image, Image.Image):
        try:
            return fit(to_rgb(ImageOps.exif_transpose(image)), size)
        except Exception as error:  # Pillow decodes only now, and may raise anything
            raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None
    tensor = isinstance(image, Tensor)
    if tensor:
        image = (image.float() if image.is_floating_point() else image).detach().cpu().numpy()
    if not isinstance(image, np.ndarray):
        raise ValueError(f"the image is {type(image).__name__}, expected Pillow's, array or tensor")
    if image.ndim == 3:
        first, last = image.shape[0] in CHANNELS, image.shape[-1] in CHANNELS
        if first and (tensor or not last):  # where both could be, what is usual
            image = image.transpose(1, 2, 0)
        image = image[..., 0] if image.shape[-1] == 1 else image
    if image.ndim != 2 and (image.ndim != 3 or image.shape[-1] not in CHANNELS):
        raise ValueError(
            f"the image is {list(image.shape)}, expected [H, W], [C, H, W] or [H, W, C] with 1, 3 "
            "or 4 channels"
        )
    top = 1 if image.dtype.kind in "fb" else 255
    if not (image.size and image.min() >= 0 and image.max() <= top):
        found = f"from {image.min()} to {image.max()}" if image.size else "none"
        raise ValueError(
            f"the values of the image are {found}, expected 0 to {top} ({image.dtype}), before "
            "any normalisation"
        )
    scaled = np.rint(image.astype(np.float32) * (255 / top)).astype(np.uint8)
    return fit(to_rgb(Image.fromarray(scaled)), size)
