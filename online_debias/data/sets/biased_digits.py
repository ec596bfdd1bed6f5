"""Biased digits: scikit-learn's digits, enlarged, warped and coloured; nothing to download."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from online_debias.data.biasing.colouring import (
    balanced_biases,
    blend,
    jitter,
    paint_patch,
    quantise,
)
from online_debias.data.images import Images
from online_debias.data.source import Source, check_rho
from online_debias.runtime.seeds import generator

Variant = Literal["bg", "fg", "patch"]

# any two are .56 apart or more, and none is near white, black or gray
COLOURS = (
    (1.0, 0.0, 0.0),
    (0.4, 1.0, 0.0),
    (0.4, 0.0, 1.0),
    (0.0, 1.0, 1.0),
    (1.0, 0.2, 1.0),
    (1.0, 0.6, 0.4),
    (0.4, 0.6, 1.0),
    (0.0, 1.0, 0.4),
    (0.6, 0.2, 0.4),
    (0.0, 0.4, 0.6),
)
SIZE = 28  # pixels a side
DIGIT = 22  # pixels from top to bottom of a digit, before warping
PATCH = 4
ORIGINALS = {"train": (0, 1250), "validation": (1250, 1300), "test": (1300, 1797)}
WARPS = {"train": 8, "validation": 8, "test": 4}


class BiasedDigits(Source):
    """Coloured, warped handwritten digits: 10,000 to train on, in about a second.

    The 1,797 originals (Alpaydin and Kaynak, 1998; in scikit-learn) are divided class by class,
    before any warping and always in the same way: 1,250 to train on, 50 to validate, 497 to
    test. Each is warped 8, 8 and 4 times. Every class has its own colour; conflicting images
    (exactly `round((1 - rho) * n)` in each class of n) share out the other nine. The test set is
    unbiased: each colour is as frequent as any other in every class.

    Every random choice has a generator of its own: another `rho`, `variant` or noise leaves the
    shapes as they are.

    Args:
        variant: What is coloured: `"bg"` the background of a white digit, `"fg"` the digit on
            black, `"patch"` a corner of 4x4 pixels beside a gray digit on black.
        rho: Share of bias-aligned images; .1 is no bias at all.
        colour_noise: Standard deviation of an image's colour around that of its bias label, in
            each channel, where channels are in [0, 1]: .05 is crisp, .2 soft.
        pixel_noise: Standard deviation of the noise of each pixel and channel.
        seed: Decides warps, colours and noise; not the division of the originals.

    Raises:
        ValueError: For an unknown variant, `rho` outside [0, 1] or negative noise.

    Example:
        >>> validation = BiasedDigits(variant="fg", rho=0.9).validation()
        >>> validation.images.shape, int(validation.conflicting.sum())
        (torch.Size([400, 3, 28, 28]), 40)
    """

    summary: ClassVar[str] = "scikit-learn's digits, warped and coloured; no download."
    classes: tuple[str, ...] = tuple("0123456789")

    def __init__(
        self,
        variant: Variant = "bg",
        rho: float = 0.98,
        colour_noise: float = 0.05,
        pixel_noise: float = 0.05,
        seed: int = 0,
    ) -> None:
        check_rho(rho)
        if variant not in get_args(Variant):
            raise ValueError(f"variant={variant!r} must be one of {', '.join(get_args(Variant))}.")
        for name, value in (("colour_noise", colour_noise), ("pixel_noise", pixel_noise)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}={value} must be a standard deviation, 0 or more.")
        self.variant = variant
        self.rho = rho
        self.colour_noise = colour_noise
        self.pixel_noise = pixel_noise
        self.seed = seed

    def train(self) -> Images:
        """10,000 biased images of 1,250 originals."""
        return self._build("train", self.rho)

    def validation(self) -> Images:
        """400 images of 50 other originals, biased as training is."""
        return self._build("validation", self.rho)

    def test(self) -> Images:
        """1,988 unbiased images of the remaining 497 originals."""
        return self._build("test", 1 / len(self.classes))

    def _build(self, split: str, rho: float) -> Images:
        def draw(consumer: str) -> torch.Generator:
            return generator("cpu", self.seed, split, consumer)

        originals, targets = _originals(split)
        targets = targets.repeat_interleave(WARPS[split])
        gray = warp(originals.repeat_interleave(WARPS[split], dim=0), draw("warp"))
        bias = balanced_biases(targets, len(self.classes), rho, draw("bias"))
        colours = jitter(torch.tensor(COLOURS)[bias], self.colour_noise, draw("colour"))
        images = _paint(gray, colours, self.variant)
        images += self.pixel_noise * torch.randn(images.shape, generator=draw("pixels"))
        return Images(quantise(images), targets, bias, self.classes)


def warp(originals: Tensor, generator: torch.Generator) -> Tensor:
    """Enlarges digits and warps each by an affine and an elastic deformation of its own.

    Rotation is up to 15 degrees, scale .85 to 1.15, shear up to .15, shift up to 2 pixels; the
    elastic part moves a 4x4 grid by up to 1.2 pixels, smoothly in between.

    Args:
        originals: `[N, 8, 8]` in [0, 1].
        generator: Decides the deformations.

    Returns:
        `[N, 28, 28]` in [0, 1].
    """
    n = len(originals)
    spin, zoom, shear, right, down = torch.empty(5, n).uniform_(-1, 1, generator=generator)
    angle = spin * math.radians(15)
    zoom = SIZE / DIGIT / (1 + 0.15 * zoom)
    cos, sin, shear = zoom * angle.cos(), zoom * angle.sin(), 0.15 * shear
    shift = torch.stack([right, down], 1)[:, :, None] * 4 / SIZE  # 2 pixels; the side measures 2
    linear = torch.stack([cos, shear * cos - sin, sin, shear * sin + cos], 1).view(n, 2, 2)
    affine = torch.cat([linear, linear @ shift], 2)  # where in the original each pixel comes from
    grid = F.affine_grid(affine, [n, 1, SIZE, SIZE], align_corners=False)
    knots = torch.empty(n, 2, 4, 4).uniform_(-1, 1, generator=generator) * 2.4 / DIGIT
    bend = F.interpolate(knots, size=(SIZE, SIZE), mode="bicubic", align_corners=True)
    grid += bend.permute(0, 2, 3, 1)
    gray = F.grid_sample(originals[:, None], grid, mode="bicubic", align_corners=False)[:, 0]
    return ((gray - 0.2) / 0.6).clamp_(0, 1)  # steeper edges: 8x8 pixels alone would look blurred


def _paint(gray: Tensor, colours: Tensor, variant: Variant) -> Tensor:
    black, white = torch.zeros(1, 3), torch.ones(1, 3)
    if variant == "bg":
        return blend(gray, white, colours)
    if variant == "fg":
        return blend(gray, colours, black)
    return paint_patch(blend(gray, white, black), colours, PATCH)


def _originals(split: str) -> tuple[Tensor, Tensor]:
    """The split's originals `[N, 8, 8]` in [0, 1] and their classes `[N]`."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32) / 16
    targets = torch.tensor(digits.target, dtype=torch.int64)
    split_draw = generator("cpu", 0, "split")
    place = torch.empty(len(targets))  # in (0, 1) within its shuffled class: train, ..., test
    for label in range(10):
        members = (targets == label).nonzero().flatten()
        ranks = torch.randperm(len(members), generator=split_draw)
        place[members] = (ranks + 0.5) / len(members)
    start, end = ORIGINALS[split]
    chosen = place.argsort(stable=True)[start:end].sort().values
    return images[chosen], targets[chosen]
