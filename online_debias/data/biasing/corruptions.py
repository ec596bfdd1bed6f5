"""Ten corruptions of small photographs, from snow to saturation: pure functions of a batch."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from online_debias.data.biasing.colouring import quantise
from online_debias.data.biasing.frost import SIDE, frost_sheet
from online_debias.data.biasing.noise_fields import blur, crops, motion_blur, plasma

Corrupt = Callable[[Tensor, int, torch.Generator], Tensor]

LEVELS = 5
LEAST_SIDE = 8  # of an image; the largest is that of the sheet of frost
WATER = (175 / 255, 238 / 255, 238 / 255)
MUD = (63 / 255, 42 / 255, 20 / 255)
LUMA = (0.299, 0.587, 0.114)


def corrupt(images: Tensor, name: str, level: int, generator: torch.Generator) -> Tensor:
    """Corrupts photographs as "Benchmarking Neural Network Robustness" does (ICLR 2019).

    The ten corruptions, their order and their strengths at each level (those for 32x32 pixels)
    are published ones: Hendrycks and Dietterich, ICLR 2019, as used by "Learning from Failure"
    (Nam et al., NeurIPS 2020). The code is our own, so the pixels are not theirs: frost is drawn,
    not photographed; water drops are shaded in a simpler way; the two steps of the elastic
    deformation are one; gray stays gray when colours are saturated.

    Args:
        images: `[N, 3, H, W]` uint8.
        name: One of `CORRUPTIONS`.
        level: From 1 to 5. Most grow stronger with it; the published strengths turn three times:
            "saturate" fades colours at 1 and 2 and strengthens them from 3 on; "spatter" is water
            to 3 and mud from 4 on; "elastic" bends more and shears less from level to level.
        generator: Decides everything random; each image has draws of its own.

    Returns:
        `[N, 3, H, W]` uint8; `images` is left alone.

    Raises:
        ValueError: For an unknown name or level, or images of another shape, size or dtype.

    Example:
        >>> gray = torch.full((2, 3, 32, 32), 102, dtype=torch.uint8)
        >>> corrupt(gray, "brightness", 4, torch.Generator()).unique()
        tensor([153], dtype=torch.uint8)
    """
    if name not in CORRUPTIONS:
        raise ValueError(f"corruption {name!r} must be one of {', '.join(CORRUPTIONS)}.")
    if level not in range(1, LEVELS + 1):
        raise ValueError(f"level={level} must be from 1 to {LEVELS}.")
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8:
        kind = str(images.dtype).removeprefix("torch.")
        raise ValueError(f"images must be [N, 3, H, W] uint8, not {list(images.shape)} {kind}.")
    if not LEAST_SIDE <= min(images.shape[2:]) <= max(images.shape[2:]) <= SIDE:
        raise ValueError(
            f"images must have from {LEAST_SIDE} to {SIDE} pixels a side, not "
            f"{images.shape[2]} x {images.shape[3]}: scale them first."
        )
    if not len(images):
        return images.clone()
    return CORRUPTIONS[name](images, level, generator)


def snow(images: Tensor, level: int, generator: torch.Generator) -> Tensor:
    """Bright flakes, smeared by the wind, over a whitened photograph."""
    mean, deviation, zoom, least, radius, spread, keep = (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )[level - 1]
    x = images / 255
    n, _, height, width = x.shape
    flakes = mean + deviation * torch.randn(n, height, width, generator=generator)
    small = flakes[:, : round(height / zoom), : round(width / zoom)]
    flakes = F.interpolate(small[:, None], (height, width), mode="bilinear")[:, 0]
    flakes = torch.where(flakes < least, 0.0, flakes.clamp(0, 1))
    angle = torch.empty(n).uniform_(-135, -45, generator=generator)
    flakes = motion_blur(flakes, int(radius), spread, angle)
    white = (1.5 * luma(x) + 0.5)[:, None]
    x = keep * x + (1 - keep) * torch.maximum(x, white)
    return quantise(x + (flakes + flakes.flip(1, 2))[:, None])


def frost(images: Tensor, level: int, generator: torch.Generator) -> Tensor:
    """Ice on a window pane: a place on a drawn sheet of it, added to a darker photograph.

    The published corruption adds photographs of ice, which have terms of their own; here the
    sheet is drawn (`frost_sheet`), the same for all images and levels.
    """
    keep, add = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))[level - 1]
    ice = crops(frost_sheet(), images.shape, generator)
    return quantise(keep * images / 255 + add * ice)


def fog(images: Tensor, level: int, generator: torch.Generator) -> Tensor:
    """Clouds of a plasma fractal, the total scaled back to the photograph's brightness."""
    amount, decay = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))[level - 1]
    x = images / 255
    brightest = x.amax((1, 2, 3), keepdim=True)
    x = x + amount * plasma(len(x), x.shape[2], x.shape[3], decay, generator)[:, None]
    return quantise(x * brightest / (brightest + amount))


def brightness(images: Tensor, level: int, generator: torch.Generator) -> Tensor:
    """The value of hue, saturation and value raised."""
    x = images / 255
    value = x.amax(1, keepdim=True)
    raised = (value + (0.05, 0.1, 0.15, 0.2, 0.3)[level - 1]).clamp(max=1)
    # with hue and saturation kept, all channels grow in proportion; black turns gray
    return quantise(torch.where(value > 0, x * raised / value.clamp(min=1e-6), raised))


def contrast(images: Tensor, level: int, generator: torch.Generator) -> Tensor:
    """Every channel drawn towards its mean over the photograph."""
    x = images / 255
    mean = x.mean((2, 3), keepdim=True)
    return quantise(mean + (x - mean) * (0.75, 0.5, 0.4, 0.3, 0.15)[level - 1])


def spatter(images: Tensor, level: int, generator: torch.Generator) -> Tensor:
    """Drops on the lens: water, lit from the top left, to level 3; mud from level 4."""
    mean, deviation, spread, least, strength = (
        (0.62, 0.1, 0.7, 0.7, 0.5),
        (0.65, 0.1, 0.8, 0.7, 0.5),
        (0.65, 0.3, 1, 0.69, 0.5),
        (0.65, 0.1, 0.7, 0.69, 0.6),
        (0.65, 0.1, 0.5, 0.68, 0.6),
    )[level - 1]
    x = images / 255
    liquid = mean + deviation * torch.randn(len(x), *x.shape[2:], generator=generator)
    liquid = blur(liquid, spread)
    if level > 3:
        mud = blur((liquid > least).float(), strength)[:, None]
        mud = torch.where(mud < 0.8, 0.0, mud)
        return quantise(torch.lerp(x, torch.tensor(MUD)[:, None, None], mud))
    thickness = (liquid - least).clamp(min=0)
    lit = (thickness + thickness.diff(dim=1, prepend=thickness[:, :1])).clamp(min=0)
    lit = blur(lit, 0.8)
    drops = strength * lit / lit.amax((1, 2), keepdim=True).clamp(min=1e-6)
    return quantise(x + drops[:, None] * torch.tensor(WATER)[:, None, None])


def elastic(images: Tensor, level: int, generator: torch.Generator) -> Tensor:
    """A random shear, and a smooth random displacement of every pixel."""
    # in shares of the side: how far pixels move before smoothing, over which distance that is
    # smoothed, and how far the three points that fix the shear move
    move, smooth, shear = (
        (0.0, 0.0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    )[level - 1]
    n, _, height, width = images.shape
    side = min(height, width)
    corners = 2 * (side // 3) / side * torch.tensor([[1.0, 1, 1], [1, -1, 1], [-1, -1, 1]])
    corners[:, 2] = 1
    moved = corners.repeat(n, 1, 1)
    moved[:, :, :2] += torch.empty(n, 3, 2).uniform_(-2 * shear, 2 * shear, generator=generator)
    # the affine map that takes each moved point back to where it was
    back = torch.linalg.solve(moved, corners[:, :2].repeat(n, 1, 1)).mT
    grid = F.affine_grid(back, [n, 1, height, width], align_corners=False)
    shift = torch.empty(2 * n, height, width).uniform_(-1, 1, generator=generator)
    if smooth:
        shift = blur(shift, smooth * side)
    grid = grid + 2 * move * shift.view(n, 2, height, width).permute(0, 2, 3, 1)
    x = F.grid_sample(images / 255, grid, padding_mode="reflection", align_corners=False)
    return quantise(x)


def jpeg(images: Tensor, level: int, generator: torch.Generator) -> Tensor:
    """What JPEG leaves of it at a low quality."""
    quality = (80, 65, 58, 50, 40)[level - 1]
    decoded = []
    for pixels in images.permute(0, 2, 3, 1).numpy():
        packed = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(packed, "JPEG", quality=quality)
        decoded.append(np.asarray(Image.open(packed)))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous()


def pixelate(images: Tensor, level: int, generator: torch.Generator) -> Tensor:
    """Fewer pixels, each the mean of those it replaces, blown up to the old size."""
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[level - 1]
    height, width = images.shape[2:]
    small = max(1, int(width * share)), max(1, int(height * share))
    coarse = []
    for pixels in images.permute(0, 2, 3, 1).numpy():
        image = Image.fromarray(np.ascontiguousarray(pixels)).resize(small, Image.Resampling.BOX)
        coarse.append(np.asarray(image.resize((width, height), Image.Resampling.BOX)))
    return torch.from_numpy(np.stack(coarse)).permute(0, 3, 1, 2).contiguous()


def saturate(images: Tensor, level: int, generator: torch.Generator) -> Tensor:
    """Colours faded (levels 1 and 2) or strengthened (from level 3)."""
    factor, add = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))[level - 1]
    x = images / 255
    value, least = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    saturation = (value - least) / value.clamp(min=1e-6)
    wanted = (saturation * factor + add).clamp(0, 1)
    # with hue and value kept, distances from the brightest channel grow with the saturation
    grown = value - (value - x) * wanted / saturation.clamp(min=1e-6)
    return quantise(torch.where(saturation > 0, grown, x))


def luma(x: Tensor) -> Tensor:
    """The brightness `[N, H, W]` of images `[N, 3, H, W]` as television weighs channels."""
    return torch.einsum("nchw,c->nhw", x, torch.tensor(LUMA))


CORRUPTIONS: dict[str, Corrupt] = {
    "snow": snow,
    "frost": frost,
    "fog": fog,
    "brightness": brightness,
    "contrast": contrast,
    "spatter": spatter,
    "elastic": elastic,
    "jpeg": jpeg,
    "pixelate": pixelate,
    "saturate": saturate,
}  # their order is that of the classes they go with
