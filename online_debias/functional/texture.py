"""The texture of images: how strong their spatial frequencies are, and how these go together."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

FLAT = 0.01  # a deviation below this is that of a plain surface, of which texture says nothing


def cosines(n: int, device: torch.device | str) -> Tensor:
    """Return the orthonormal cosine transform of `n` numbers, `[n, n]`, the mean first.

    Example:
        >>> cosines(2, "cpu")
        tensor([[ 0.7071,  0.7071],
                [ 0.7071, -0.7071]])
    """
    wave, place = torch.arange(n, device=device)[:, None], torch.arange(n, device=device)
    basis = torch.cos(math.pi / n * (place + 0.5) * wave) * math.sqrt(2 / n)
    return torch.cat([basis[:1] / math.sqrt(2), basis[1:]])


def bands(images: Tensor, side: int = 4) -> Tensor:
    """Return the frequency bands of every place, `[B, side**2 + C - 1, places]`.

    Colours are transformed to brightness and contrasts; of brightness come the cosine transforms
    of all patches of `side` x `side`, of a contrast its value where a patch has its middle.

    Args:
        images: `[B, C, H, W]`, at least `side` high and wide.
        side: of a patch.
    """
    channels, device = images.shape[1], images.device
    wave = cosines(side, device)
    patch = (wave[:, None, :, None] * wave[None, :, None, :]).view(-1, 1, side, side)
    colours = torch.einsum("kc,bchw->bkhw", cosines(channels, device), images.float())
    bright = F.conv2d(colours[:, :1], patch)
    before, (height, width) = (side - 1) // 2, bright.shape[2:]
    contrasts = colours[:, 1:, before : before + height, before : before + width]
    return torch.cat([bright.flatten(2), contrasts.flatten(2)], 1)


@torch.no_grad()
def texture(images: Tensor, side: int = 4) -> Tensor:
    """Return the texture of each image, `[B, D]`: statistics of K bands, D = 3 K + K (K - 1) / 2.

    Of each band the mean over all places, the logarithm of the standard deviation, and how evenly
    the deviation is spread (the mean absolute value in deviations: .8 for noise, less for a few
    edges); of each two bands the correlation. What a picture shows has little to do with these;
    what it is made of and how it was taken has: blur, noise, contrast, compression. Such marginal
    and joint statistics of a filter bank are those of Portilla and Simoncelli, "A Parametric
    Texture Model Based on Joint Statistics of Complex Wavelet Coefficients" (IJCV 2000); the
    filters here are those of a cosine transform (`bands`), K = `side**2` + C - 1.

    Args:
        images: `[B, C, H, W]`, at least `side` high and wide; their scale is that of the model's
            inputs, about a deviation of 1.
        side: of the patches that frequencies are taken of.

    Example:
        >>> stream = torch.Generator().manual_seed(0)
        >>> noise = torch.randn(1, 1, 32, 32, generator=stream)
        >>> texture(torch.cat([noise, noise.cumsum(3)]), side=1)  # mean, deviation, evenness
        tensor([[0.0322, 0.0271, 0.7885],
                [0.7088, 1.3912, 0.7465]])
    """
    band = bands(images, side)
    mean = band.mean(2)
    deviation = band.sub_(mean[..., None])
    spread = deviation.square().mean(2).sqrt().clamp_min(FLAT)
    unit = deviation.div_(spread[..., None])
    evenness = unit.abs().mean(2)
    correlation = torch.bmm(unit, unit.transpose(1, 2)) / unit.shape[2]
    one, other = torch.triu_indices(band.shape[1], band.shape[1], 1, device=images.device)
    return torch.cat([mean, spread.log(), evenness, correlation[:, one, other]], 1)
