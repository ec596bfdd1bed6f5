"""Random variations of images, each image its own, without leaving the device."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


def warp(images: Tensor, angle: Tensor, zoom: Tensor, shift: Tensor, flip: Tensor) -> Tensor:
    """Turn images upside down, then rotate, enlarge and shift them; reflected beyond the border.

    Args:
        images: `[K, C, H, W]`.
        angle: `[K]`, counterclockwise, in radians.
        zoom: `[K]`, 2 shows the middle at twice its size.
        shift: `[K, 2]`, to the right and down, in widths and heights of the image.
        flip: `[K]` bool, which images are turned upside down.

    Example:
        >>> image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
        >>> still, none = torch.zeros(1), torch.zeros(1, 2)
        >>> warp(image, still, torch.ones(1), none, flip=torch.tensor([True]))
        tensor([[[[3., 4.],
                  [1., 2.]]]])
    """
    height, width = images.shape[-2:]
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    # Where each pixel comes from, in halves of the image's sides, which may differ.
    x = torch.stack([cos, -sin * (height / width)], 1)
    y = torch.stack([sin * (width / height), cos], 1)
    turn = torch.stack([x, torch.where(flip[:, None], -y, y)], 1)  # [K, 2, 2]
    origin = turn @ (-2 * shift)[:, :, None]
    theta = torch.cat([turn, origin], 2).to(images.dtype)
    places = _places(height, width, theta.dtype, theta.device)
    grid = (theta.view(-1, 3) @ places).view(-1, 2, height, width)
    grid = grid.permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


@lru_cache(maxsize=4)  # of as many sizes of images as a process warps by turns
def _places(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return x, y and 1 of every pixel, `[3, H * W]`; `F.affine_grid` is many times as slow."""
    x, y = (
        (2 * torch.arange(side, device=device, dtype=dtype) + 1) / side - 1
        for side in (width, height)
    )
    return torch.stack(
        [x.repeat(height), y.repeat_interleave(width), torch.ones_like(x).repeat(height)]
    )


def autocontrast(images: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Stretch each channel of each image to the range from `low` to `high`.

    A channel that spans less than a grey level of 256 stays as it is: stretching it would show
    rounding only.

    Args:
        images: `[K, C, H, W]`.
        low: `[C]` or a scalar, the darkest value there is.
        high: the same, the brightest.

    Example:
        >>> image = torch.tensor([[[[1.0, 2.0], [3.0, 2.0]]]])
        >>> autocontrast(image, low=torch.tensor(-0.5), high=torch.tensor(0.5))
        tensor([[[[-0.5000,  0.0000],
                  [ 0.5000,  0.0000]]]])
    """
    low, high = low.view(-1, 1, 1), high.view(-1, 1, 1)
    darkest = images.amin((2, 3), keepdim=True)
    span = images.amax((2, 3), keepdim=True) - darkest
    full = high - low
    flat = span <= full / 256
    stretched = low + (images - darkest) * (full / torch.where(flat, 1.0, span))
    return torch.where(flat, images, stretched)


def strong(
    images: Tensor, kind: Tensor, low: Tensor, high: Tensor, generator: torch.Generator
) -> Tensor:
    """Vary images as MoDAD does its copies, in three ways.

    Kind 0 is turned upside down half of the times and rotated by any angle, kind 1 rotated and its
    contrast stretched half of the times, kind 2 shows the middle half at twice its size.

    Args:
        images: `[K, C, H, W]`.
        kind: `[K]`, 0, 1 or 2.
        low: `[C]` or a scalar, the darkest value there is.
        high: the same, the brightest.
        generator: source of randomness, on the images' device.
    """
    turn, coin = torch.rand(2, len(images), generator=generator, device=images.device)
    angle = torch.where(kind == 2, 0.0, 2 * math.pi * turn)
    zoom = torch.where(kind == 2, 2.0, 1.0)
    heads = coin < 0.5
    warped = warp(images, angle, zoom, turn.new_zeros(len(images), 2), heads & (kind == 0))
    stretches = (heads & (kind == 1)).view(-1, 1, 1, 1)
    return torch.where(stretches, autocontrast(warped, low, high), warped)


def mild(images: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate by up to 15 degrees, enlarge or shrink by up to a tenth, shift by up to a tenth.

    Args:
        images: `[K, C, H, W]`.
        generator: source of randomness, on the images' device.
    """
    draw = torch.rand(4, len(images), generator=generator, device=images.device)
    angle, zoom, *shift = 2 * draw - 1  # in -1..1
    no_flip = torch.zeros_like(angle, dtype=torch.bool)
    return warp(
        images, angle * (math.pi / 12), 1 + 0.1 * zoom, 0.1 * torch.stack(shift, 1), no_flip
    )
