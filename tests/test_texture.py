"""The texture of images, against loops and transforms of scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from online_debias.functional.shortcut.texture import FLAT, bands, cosines, texture

torch.set_num_threads(1)


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("side", [1, 3, 4])
@pytest.mark.parametrize("form", [torch.channels_last, torch.contiguous_format])
def test_bands_are_cosine_transforms_of_patches(
    channels: int, side: int, form: torch.memory_format
) -> None:
    for height, width, step in ((9, 8, 2), (70, 99, 2), (101, 97, 3)):
        images = torch.randn(1, channels, height, width, generator=stream())
        colours = dctn(images[0].double().numpy(), axes=(0,), norm="ortho")
        expected = []
        for top in range(0, height - side + 1, step):
            for left in range(0, width - side + 1, step):
                patch = dctn(colours[0, top : top + side, left : left + side], norm="ortho")
                middle = (side - 1) // 2
                rest = colours[1:, top + middle, left + middle]
                expected.append([*patch.flatten(), *rest])
        found = bands(images.contiguous(memory_format=form), side)[0]
        assert found.shape[1] == side**2 + channels - 1
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_statistics_are_those_of_each_band_and_pair(channels: int) -> None:
    images = torch.randn(3, channels, 22, 20, generator=stream()).cumsum(3)
    found, each = texture(images), bands(images)
    n = each.shape[2]
    assert n == 15 + channels
    assert found.shape == (3, channels + 2 * n + n * (n - 1) // 2)
    for row, places in zip(found.double(), each.double().numpy(), strict=True):
        band = places.T
        spread = band.std(1)
        evenness = np.abs(band - band.mean(1, keepdims=True)).mean(1) / spread
        pairs = np.corrcoef(band)[np.triu_indices(n, 1)]
        colour = band.mean(1)[[0, *range(16, n)]]
        expected = [*colour, *np.log(spread), *evenness, *pairs]
        np.testing.assert_allclose(row.numpy(), expected, rtol=1e-3, atol=2e-5)


def test_a_plain_surface_has_no_texture() -> None:
    found = texture(torch.full((1, 3, 9, 9), 0.7))[0]
    assert found.isfinite().all() and (found[3:21] == math.log(FLAT)).all()
    assert found[21:].abs().max() < 1e-2


def test_cosines_are_orthonormal_and_begin_with_the_mean() -> None:
    for n in (1, 3, 8):
        basis = cosines(n, "cpu")
        torch.testing.assert_close(basis @ basis.T, torch.eye(n))
        torch.testing.assert_close(basis[0], torch.full((n,), n**-0.5))


def test_texture_tells_how_a_picture_was_taken_and_not_where_things_are() -> None:
    wave = torch.fft.fftfreq(64).square()
    noise = torch.randn(1, 3, 64, 64, generator=stream())
    smooth = torch.fft.fft2(noise) / (wave + wave[:, None] + 1e-3).pow(0.75)  # as photographs are
    picture = torch.fft.ifft2(smooth).real
    picture /= picture.std()
    noisy = picture + torch.randn(picture.shape, generator=stream(1)) / 2
    blurred = torch.nn.functional.avg_pool2d(picture, 3, 1, 1)
    of = texture(torch.cat([picture, picture.roll((7, 5), (2, 3)), noisy, blurred]))
    moved, grain, blur = (of[1:] - of[0]).norm(dim=1).tolist()
    assert moved < grain / 3 and moved < blur / 3
