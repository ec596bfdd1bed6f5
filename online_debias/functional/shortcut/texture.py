"""The texture of images: how strong their spatial frequencies are, and how these go together."""

from __future__ import annotations

import math
from functools import cache

import torch
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


@cache
def _filters(channels: int, side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Transforms of a pixel's colours and of a patch's brightness."""
    wave = cosines(side, device)
    return cosines(channels, device), torch.kron(wave, wave)


def bands(images: Tensor, side: int = 4) -> Tensor:
    """Return frequency bands, `[B, places, side**2 + C - 1]`, on a grid over the images.

    Colours are transformed to brightness and contrasts; of brightness come the cosine transforms
    of patches of `side` x `side`, their mean first, of a contrast its value in the middle of a
    patch. Patches overlap, every second pixel begins one; in images of more than 64 pixels fewer,
    so that there are about 32 a side: statistics hardly change by it, their cost does.

    Args:
        images: `[B, C, H, W]`, at least `side` high and wide.
        side: of a patch.
    """
    rows, channels = images.shape[:2]
    step = max(2, min(images.shape[2:]) // 32)
    colour, patch = _filters(channels, side, images.device)
    pixels = images.float().movedim(1, 3)
    patches = (pixels @ colour[0]).unfold(1, side, step).unfold(2, side, step)
    bright = patches.reshape(rows, -1, side**2) @ patch.T
    (height, width), middle = patches.shape[1:3], (side - 1) // 2
    middles = pixels[:, middle::step, middle::step][:, :height, :width]
    return torch.cat([bright, middles.reshape(rows, -1, channels) @ colour[1:].T], 2)


@torch.no_grad()
def texture(images: Tensor, side: int = 4) -> Tensor:
    """Return the texture of each image, `[B, D]`: statistics of K bands, D = C + 2 K + K (K-1) / 2.

    The mean colour; of each band the logarithm of the standard deviation over all places, and how
    evenly the deviation is spread (the mean absolute value in deviations: .8 for noise, less for a
    few edges); of each two bands the correlation. What a picture shows has little to do with these;
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
        >>> dots = (noise > 1.5).float()
        >>> texture(torch.cat([noise, dots]), side=1)  # mean, deviation, evenness
        tensor([[ 0.0337, -0.0050,  0.7801],
                [ 0.0742, -1.3389,  0.5243]])
    """
    band = bands(images, side)
    places, n_bands = band.shape[1:]
    mean = band.mean(1)
    deviation = band.sub_(mean[:, None])
    covariance = torch.bmm(deviation.transpose(1, 2), deviation) / places
    spread = covariance.diagonal(dim1=1, dim2=2).sqrt().clamp_min(FLAT)
    evenness = torch.linalg.vector_norm(deviation, ord=1, dim=1) / (places * spread)
    one, other = torch.triu_indices(n_bands, n_bands, 1, device=images.device)
    correlation = covariance[:, one, other] / (spread[:, one] * spread[:, other])
    colour = torch.cat([mean[:, :1], mean[:, side**2 :]], 1)
    return torch.cat([colour, spread.log(), evenness, correlation], 1)
