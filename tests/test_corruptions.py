"""Corruptions of photographs, and the random fields they are made of."""

from __future__ import annotations

import colorsys
import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from online_debias.data.biasing.corruptions import CORRUPTIONS, LEVELS, MUD, corrupt
from online_debias.data.biasing.frost import frost_sheet
from online_debias.data.biasing.noise_fields import blur, crops, gaussian_taps, motion_blur, plasma

RANDOM = ("snow", "frost", "fog", "spatter", "elastic")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photographs(n: int = 16, side: int = 32) -> Tensor:
    """Smooth coloured shapes with some grain, darker than the middle: much like photographs."""
    draw = seeded(7)
    layers = torch.stack([plasma(n, side, side, 1.5, draw) for _ in range(3)], 1)
    grain = 0.05 * torch.randn(n, 3, side, side, generator=draw)
    return ((0.1 + 0.6 * layers + grain).clamp(0, 1) * 255).to(torch.uint8)


def distortion(name: str, level: int) -> float:
    images = photographs()
    return float((corrupt(images, name, level, seeded()).float() - images).abs().mean())


# What holds for all of them -------------------------------------------------------------------


def test_they_are_in_the_order_of_the_protocol() -> None:
    assert list(CORRUPTIONS) == [
        "snow", "frost", "fog", "brightness", "contrast",
        "spatter", "elastic", "jpeg", "pixelate", "saturate",
    ]  # fmt: skip


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_draws_give_the_same_pixels_and_others_do_not(name: str) -> None:
    images = photographs(4)
    before = images.clone()
    first, second = (corrupt(images, name, 5, seeded()) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(images, before), "the input was changed"
    assert first.shape == images.shape and first.dtype == torch.uint8
    assert torch.equal(first, corrupt(images, name, 5, seeded(1))) == (name not in RANDOM)


@pytest.mark.parametrize("name", RANDOM)
def test_every_image_has_draws_of_its_own(name: str) -> None:
    images = photographs(1).repeat(2, 1, 1, 1)
    first, second = corrupt(images, name, 5, seeded())
    assert not torch.equal(first, second)


@pytest.mark.parametrize("level", range(1, LEVELS + 1))
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_black_and_white_do_not_wrap_around(name: str, level: int) -> None:
    white = torch.full((2, 3, 32, 32), 255, dtype=torch.uint8)
    brighter = corrupt(white, name, level, seeded()).float().mean()
    darker = corrupt(torch.zeros_like(white), name, level, seeded()).float().mean()
    assert darker < brighter
    if name not in ("frost", "fog", "spatter"):  # these darken white
        assert brighter == 255


@pytest.mark.parametrize("name", ["snow", "fog", "brightness", "contrast", "jpeg", "pixelate"])
def test_distortion_grows_with_the_level(name: str) -> None:
    found = [distortion(name, level) for level in range(1, LEVELS + 1)]
    assert found == sorted(set(found)), found


def test_distortion_grows_with_the_level_where_the_published_strengths_do() -> None:
    assert distortion("saturate", 1) < distortion("saturate", 2)
    assert distortion("saturate", 3) < distortion("saturate", 4) < distortion("saturate", 5)
    assert distortion("spatter", 1) < distortion("spatter", 2) < distortion("spatter", 3)
    assert distortion("spatter", 4) < distortion("spatter", 5)


def test_frost_hides_more_with_the_level() -> None:
    images = photographs()
    alike = []
    for level in range(1, LEVELS + 1):
        pair = torch.stack([images.flatten().float(), _frosted(images, level).flatten().float()])
        alike.append(float(torch.corrcoef(pair)[0, 1]))
    assert alike == sorted(alike, reverse=True) and alike[0] > alike[-1] + 0.1


def _frosted(images: Tensor, level: int) -> Tensor:
    return corrupt(images, "frost", level, seeded())


def test_images_that_are_not_square_are_corrupted_too() -> None:
    images = photographs(2, side=40)[:, :, :24]
    for name in CORRUPTIONS:
        assert corrupt(images, name, 5, seeded()).shape == (2, 3, 24, 40)
        assert corrupt(images[:0], name, 5, seeded()).shape == (0, 3, 24, 40)


def test_what_cannot_be_corrupted_is_refused() -> None:
    images = photographs(1)
    with pytest.raises(ValueError, match="corruption 'rain' must be one of snow, frost"):
        corrupt(images, "rain", 1, seeded())
    with pytest.raises(ValueError, match="level=6 must be from 1 to 5"):
        corrupt(images, "snow", 6, seeded())
    with pytest.raises(ValueError, match=r"uint8, not \[1, 3, 32, 32\] float32"):
        corrupt(images / 255, "snow", 1, seeded())
    with pytest.raises(ValueError, match=r"uint8, not \[1, 1, 32, 32\] uint8"):
        corrupt(images[:, :1], "snow", 1, seeded())
    with pytest.raises(ValueError, match="from 8 to 512 pixels a side, not 4 x 32"):
        corrupt(images[:, :, :4], "snow", 1, seeded())


# One by one -----------------------------------------------------------------------------------


def colour_by_colour(images: Tensor, change: tuple[float, float, float, float]) -> Tensor:
    """Saturation and value of every pixel times a factor and plus something, by colorsys."""
    times_s, plus_s, times_v, plus_v = change
    wanted = torch.empty(images.shape)
    for n, y, x in np.ndindex(len(images), *images.shape[2:]):
        h, s, v = colorsys.rgb_to_hsv(*(images[n, :, y, x] / 255).tolist())
        s, v = min(max(s * times_s + plus_s, 0), 1), min(v * times_v + plus_v, 1)
        wanted[n, :, y, x] = torch.tensor(colorsys.hsv_to_rgb(h, s, v)) * 255
    return wanted


def test_brightness_raises_the_value_of_every_pixel() -> None:
    images = photographs(1, side=12)
    images[0, :, 0, 0] = 0  # black has no hue
    for level, add in enumerate((0.05, 0.1, 0.15, 0.2, 0.3), 1):
        wanted = colour_by_colour(images, (1, 0, 1, add))
        found = corrupt(images, "brightness", level, seeded()).float()
        torch.testing.assert_close(found, wanted, atol=0.51, rtol=0)


def test_saturate_changes_the_saturation_of_every_pixel_but_gray_ones() -> None:
    images = photographs(1, side=12)
    strengths = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))
    for level, (times, add) in enumerate(strengths, 1):
        wanted = colour_by_colour(images, (times, add, 1, 0))
        found = corrupt(images, "saturate", level, seeded()).float()
        coloured = images.amax(1) > images.amin(1)
        difference = (found - wanted).abs().amax(1)
        assert coloured.float().mean() > 0.9 and difference[coloured].max() <= 0.51
    gray = torch.full((1, 3, 8, 8), 90, dtype=torch.uint8)
    assert torch.equal(corrupt(gray, "saturate", 5, seeded()), gray)


def test_contrast_draws_each_channel_to_its_mean() -> None:
    images = photographs(2, side=9)
    for level, share in enumerate((0.75, 0.5, 0.4, 0.3, 0.15), 1):
        found = corrupt(images, "contrast", level, seeded())
        for n, c in np.ndindex(2, 3):
            plane = images[n, c].double()
            wanted = plane.mean() + share * (plane - plane.mean())
            torch.testing.assert_close(found[n, c].double(), wanted, atol=0.51, rtol=0)


def test_fog_adds_clouds_and_keeps_the_brightest_pixel_the_limit() -> None:
    images = photographs(2)
    for level, (amount, decay) in enumerate(
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)), 1
    ):
        clouds = plasma(2, 32, 32, decay, seeded())
        found = corrupt(images, "fog", level, seeded())
        for n in range(2):
            most = images[n].max().item() / 255
            wanted = (images[n] / 255 + amount * clouds[n]) * most / (most + amount) * 255
            torch.testing.assert_close(found[n].float(), wanted, atol=0.51, rtol=0)
            assert found[n].max() <= images[n].max()


def test_snow_falls_on_the_image_and_on_the_image_upside_down() -> None:
    black = torch.zeros(64, 3, 32, 32, dtype=torch.uint8)
    fallen = corrupt(black, "snow", 4, seeded())
    ground = fallen.min()  # black is whitened a little
    assert 0.02 < (fallen > ground + 40).float().mean() < 0.5
    assert torch.equal(fallen, fallen.flip(2, 3))
    # flakes are streaks from above: like their neighbours below, unlike those beside
    bright = fallen[:, 0].float()
    assert bright.diff(dim=1).abs().mean() < 0.7 * bright.diff(dim=2).abs().mean()


def test_water_brightens_and_mud_covers() -> None:
    images = photographs(8)
    water = corrupt(images, "spatter", 3, seeded()).int() - images.int()
    assert water.min() >= 0 and 0.01 < (water.amax(1) > 20).float().mean() < 0.6
    blue, red = water[:, 2].float().mean(), water[:, 0].float().mean()
    assert blue > red, "water is turquoise"
    dirty = corrupt(images, "spatter", 5, seeded()).float()
    covered = (dirty - images).abs().amax(1) > 0
    assert 0.01 < covered.float().mean() < 0.5
    mud = torch.tensor(MUD)[:, None, None] * 255
    # what is covered is mud for 4/5 or more
    assert ((dirty - mud).abs() <= 0.2 * (images - mud).abs() + 1).all(1)[covered].all()


def test_elastic_at_the_first_level_shears_and_then_it_bends() -> None:
    ramp = (torch.arange(64) * 3).to(torch.uint8).expand(6, 3, 64, 64)

    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    plane = torch.stack([torch.ones(1024), y.flatten(), x.flatten()], 1)

    def bend(level: int) -> float:
        """How far the inner pixels are from the nearest affine function of their place."""
        inner = corrupt(ramp, "elastic", level, seeded())[:, 0, 16:48, 16:48].reshape(6, -1).T
        fit = plane @ torch.linalg.lstsq(plane, inner.float()).solution
        return float((inner - fit).square().mean().sqrt())

    # under an affine map a ramp stays one, up to rounding
    assert bend(1) < 0.35 < bend(3) < bend(4) < bend(5)
    assert bend(5) > 1
    moved = corrupt(ramp, "elastic", 1, seeded())[:, 0, 31, 31].float() / 3
    assert (moved - 31).abs().max() < 0.08 * 64 * 1.5 and (moved - 31).abs().max() > 0.5


def test_jpeg_is_that_of_pillow_at_the_published_quality() -> None:
    images = photographs(2)
    for level, quality in enumerate((80, 65, 58, 50, 40), 1):
        found = corrupt(images, "jpeg", level, seeded())
        for n in range(2):
            packed = io.BytesIO()
            Image.fromarray(images[n].permute(1, 2, 0).numpy().copy()).save(
                packed, "JPEG", quality=quality
            )
            wanted = np.asarray(Image.open(packed)).copy()
            assert torch.equal(found[n].permute(1, 2, 0), torch.from_numpy(wanted))


def test_pixelate_leaves_fewer_pixels() -> None:
    images = torch.randint(256, (2, 3, 32, 32), generator=seeded(), dtype=torch.uint8)
    for level, share in enumerate((0.95, 0.9, 0.85, 0.75, 0.65), 1):
        coarse = corrupt(images, "pixelate", level, seeded())
        for dim in (2, 3):
            steps = coarse.int().diff(dim=dim).abs().amax([d for d in range(4) if d != dim])
            assert int((steps > 0).sum()) == int(32 * share) - 1


# Frost ----------------------------------------------------------------------------------------


def test_frost_is_a_place_on_the_sheet() -> None:
    sheet = frost_sheet()
    assert sheet.shape == (3, 512, 512) and sheet.min() >= 0 and sheet.max() <= 1
    assert sheet.std() > 0.1 and (sheet[2] >= sheet[0]).all(), "neither flat nor reddish"
    black = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    found = _frosted(black, 5)
    draw = seeded()
    tops, lefts = (torch.randint(512 - 16 + 1, (2, 1, 1), generator=draw) for _ in range(2))
    for n in range(2):
        top, left = int(tops[n]), int(lefts[n])
        wanted = 0.45 * sheet[:, top : top + 16, left : left + 16] * 255
        torch.testing.assert_close(found[n].float(), wanted, atol=0.51, rtol=0)


def test_the_sheet_is_drawn_alike_each_time_and_left_alone() -> None:
    sheet = frost_sheet().clone()
    _frosted(photographs(4), 5)
    assert torch.equal(frost_sheet(), sheet)
    frost_sheet.cache_clear()
    assert torch.equal(frost_sheet(), sheet)


# Noise fields ---------------------------------------------------------------------------------


def test_plasma_fills_zero_to_one_and_is_smoother_with_more_decay() -> None:
    rough, smooth = (plasma(8, 30, 50, decay, seeded()) for decay in (1.2, 3.0))
    for field in (rough, smooth):
        assert field.shape == (8, 30, 50)
        assert torch.equal(field.amin((1, 2)), torch.zeros(8))
        assert torch.equal(field.amax((1, 2)), torch.ones(8))
    assert smooth.diff(dim=1).abs().mean() < 0.5 * rough.diff(dim=1).abs().mean()
    assert not torch.equal(rough[0], rough[1])


def test_plasma_interpolates_once_nothing_is_added() -> None:
    field = plasma(1, 16, 16, 1e6, seeded())[0]  # only the coarsest scale adds anything
    torus = torch.cat([torch.cat([field, field[:1]]), torch.cat([field, field[:1]])[:, :1]], 1)
    for y, x in ((4, 4), (4, 12), (12, 4), (12, 12)):  # middles of the squares of side 8
        around = torus[[y - 4, y - 4, y + 4, y + 4], [x - 4, x + 4, x - 4, x + 4]]
        torch.testing.assert_close(field[y, x], around.mean())


def test_blur_equals_a_loop_with_reflected_edges() -> None:
    field = torch.rand(1, 9, 11, generator=seeded(), dtype=torch.float64).float()
    sigma = 0.8
    radius = math.ceil(3 * sigma)
    taps = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(-radius, radius + 1)]
    taps = [tap / sum(taps) for tap in taps]
    torch.testing.assert_close(gaussian_taps(sigma, radius), torch.tensor(taps))

    def at(y: int, x: int) -> float:
        y, x = abs(y), abs(x)
        return field[0, min(y, 16 - y), min(x, 20 - x)].item()

    found = blur(field, sigma)
    for y, x in np.ndindex(9, 11):
        wanted = sum(
            taps[j + radius] * taps[i + radius] * at(y + j, x + i)
            for j in range(-radius, radius + 1)
            for i in range(-radius, radius + 1)
        )
        assert found[0, y, x].item() == pytest.approx(wanted, abs=1e-5)


def test_motion_blur_smears_one_way_along_each_angle() -> None:
    point = torch.zeros(3, 15, 15)
    point[:, 7, 7] = 1
    right, down, left = motion_blur(point, 4, 2.0, torch.tensor([0.0, 90.0, 180.0]))
    weights = torch.tensor([math.exp(-0.5 * (k / 2.0) ** 2) for k in range(5)])
    weights /= weights.sum()
    for found, line in (
        (right, right[7, 7:12]),
        (down, down[7:12, 7]),
        (left, left[7, 3:8].flip(0)),
    ):
        torch.testing.assert_close(line, weights, atol=1e-4, rtol=0)
        torch.testing.assert_close(found.sum(), torch.tensor(1.0), atol=1e-4, rtol=0)


def test_crops_are_windows_of_the_sheet_at_places_of_their_own() -> None:
    sheet = torch.arange(3 * 20 * 20).view(3, 20, 20).float()
    windows = crops(sheet, torch.Size([50, 3, 4, 6]), seeded())
    assert windows.shape == (50, 3, 4, 6)
    corners = set()
    for window in windows:
        top, left = divmod(int(window[0, 0, 0]), 20)
        assert torch.equal(window, sheet[:, top : top + 4, left : left + 6])
        corners.add((top, left))
    assert len(corners) > 30 and {top for top, _ in corners} <= set(range(17))
