"""Random gray fields and the ways they are smoothed: what weather is made of."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def plasma(n: int, height: int, width: int, decay: float, generator: torch.Generator) -> Tensor:
    """Clouds by the diamond-square algorithm (Fournier, Fussell and Carpenter, 1982).

    Args:
        n: How many.
        height: In pixels.
        width: In pixels.
        decay: What is added shrinks by `decay**2` from one scale to the next finer one.
        generator: Decides the clouds.

    Returns:
        `[n, height, width]`, each from 0 to 1.

    Example:
        >>> plasma(2, 5, 8, 2.0, torch.Generator()).amax((1, 2)).shape
        torch.Size([2])
    """
    step = 1 << (max(height, width, 2) - 1).bit_length()
    heights, amplitude = torch.zeros(n, step, step), 1.0

    def rough(mean: Tensor) -> Tensor:
        return mean + amplitude * torch.empty_like(mean).uniform_(-1, 1, generator=generator)

    while step > 1:
        half = step // 2
        corners = heights[:, ::step, ::step]  # the field is a torus: its edges meet
        down, right = corners.roll(-1, 1), corners.roll(-1, 2)
        centres = rough((corners + down + right + down.roll(-1, 2)) / 4)
        heights[:, half::step, half::step] = centres
        heights[:, ::step, half::step] = rough((corners + right + centres + centres.roll(1, 1)) / 4)
        heights[:, half::step, ::step] = rough((corners + down + centres + centres.roll(1, 2)) / 4)
        step, amplitude = half, amplitude / decay**2
    field = heights[:, :height, :width]
    low, high = field.amin((1, 2), keepdim=True), field.amax((1, 2), keepdim=True)
    return (field - low) / (high - low).clamp(min=1e-6)


def gaussian_taps(sigma: float, radius: int) -> Tensor:
    """The weights `[2 * radius + 1]` of a Gaussian of deviation `sigma` pixels; their sum is 1."""
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    return taps / taps.sum()


def blur(fields: Tensor, sigma: float) -> Tensor:
    """Smooths `[N, H, W]` with a Gaussian of `sigma` pixels; edges are reflected."""
    radius = min(max(1, math.ceil(3 * sigma)), min(fields.shape[1:]) - 1)
    taps = gaussian_taps(sigma, radius)
    padded = F.pad(fields[:, None], [radius] * 4, mode="reflect")
    rows = F.conv2d(padded, taps.view(1, 1, 1, -1))
    return F.conv2d(rows, taps.view(1, 1, -1, 1))[:, 0]


def motion_blur(fields: Tensor, radius: int, sigma: float, angle: Tensor) -> Tensor:
    """Smears each field `[N, H, W]` one way, along its own angle `[N]` in degrees.

    Args:
        fields: `[N, H, W]`.
        radius: How far in pixels.
        sigma: Over how many pixels the smear fades.
        angle: 0 is to the right, 90 down.
    """
    n, height, width = fields.shape
    weights = gaussian_taps(sigma, radius)[radius:]
    weights /= weights.sum()
    turn = torch.deg2rad(angle)
    still = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).repeat(n, 1, 1)
    grid = F.affine_grid(still, [n, 1, height, width], align_corners=False)
    # a pixel is 2 / width of the grid, which goes from -1 to 1
    pace = torch.stack([turn.cos() * 2 / width, turn.sin() * 2 / height], 1)[:, None, None]
    smeared = torch.zeros_like(fields)
    for pixels, weight in enumerate(weights.tolist()):
        moved = F.grid_sample(
            fields[:, None], grid - pixels * pace, padding_mode="border", align_corners=False
        )
        smeared += weight * moved[:, 0]
    return smeared


def crops(sheet: Tensor, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Cuts windows of `shape` `[N, C, H, W]` out of `sheet` `[C, S, S]`, each at a random place."""
    n, _, height, width = shape
    top = torch.randint(sheet.shape[1] - height + 1, (n, 1, 1), generator=generator)
    left = torch.randint(sheet.shape[2] - width + 1, (n, 1, 1), generator=generator)
    rows, columns = top + torch.arange(height)[:, None], left + torch.arange(width)
    return sheet[:, rows, columns].movedim(0, 1)
