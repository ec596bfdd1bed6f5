"""Words under images: small copies of them, each with two lines of text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SMALL, LARGE = 96, 128  # pixels: smaller images are enlarged, larger ones shrunk
FONT, LINE, MARGIN = 14, 16, 2  # pixels
INK, RED = (60, 60, 60), (190, 30, 30)


def captioned(images: Tensor, captions: Sequence[tuple[str, str]]) -> Tensor:
    """Put two lines of text under each image; the second is red. Text that is too long is cut.

    Images are shown with their longer side between 48 and 128 pixels, whatever their size.

    Args:
        images: `[K, C, H, W]` uint8 on the CPU; of other than 3 channels the mean is shown.
        captions: K pairs of lines.

    Returns:
        `[K, 3, H', W']` uint8.

    Example:
        >>> captioned(torch.zeros(1, 1, 28, 28, dtype=torch.uint8), [("cat", "as dog")]).shape
        torch.Size([1, 3, 118, 84])
    """
    from PIL import Image, ImageDraw, ImageFont  # only those who draw need it

    font = ImageFont.load_default(FONT)
    pixels = thumbnails(images)
    height, width = pixels.shape[-2:]
    sheet = pixels.new_full((len(pixels), 3, height + 2 * LINE + MARGIN, width), 255)
    sheet[:, :, :height] = pixels
    for place, lines in enumerate(captions):
        picture = Image.new("RGB", (width, 2 * LINE + MARGIN), "white")
        draw = ImageDraw.Draw(picture)
        for line, (text, colour) in enumerate(zip(lines, (INK, RED), strict=True)):
            while text and draw.textlength(text, font) > width:
                text = text[:-1]
            draw.text((0, MARGIN + line * LINE), text, colour, font)
        sheet[place, :, height:] = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    return sheet


def thumbnails(images: Tensor) -> Tensor:
    """Return the images `[K, 3, H, W]` as `captioned` shows them, without words."""
    if images.shape[1] != 3:
        images = images.float().mean(1, keepdim=True).byte().expand(-1, 3, -1, -1)
    height, width = images.shape[-2:]
    longer = max(height, width)
    if longer > LARGE:
        size = [max(1, side * LARGE // longer) for side in (height, width)]
        return F.interpolate(images.float(), size, mode="area").round().byte()
    scale = max(1, SMALL // longer)
    return images.repeat_interleave(scale, -2).repeat_interleave(scale, -1)
