"""Who gets which colour, and how gray images are painted with it: pure functions."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def bahng_biases(targets: Tensor, n_classes: int, rho: float, generator: torch.Generator) -> Tensor:
    """Bias labels by the recipe of Biased MNIST (Bahng et al., ICML 2020).

    Each class is shuffled. Its first `int(n * rho)` images are bias-aligned. The rest is cut
    into chunks of `ceil(rest / (n_classes - 1))`, and each chunk gets another one of the other
    labels, in shuffled order. So with few conflicting images some labels do not occur.

    Args:
        targets: `[N]` int64.
        n_classes: Number of classes, which is also the number of bias labels.
        rho: Share of bias-aligned images in each class.
        generator: Decides the draw.

    Returns:
        `[N]` int64, the bias label of each image.

    Example:
        >>> targets = torch.tensor([0] * 50 + [1] * 50)
        >>> bias = bahng_biases(targets, 2, 0.9, torch.Generator().manual_seed(0))
        >>> int((bias != targets).sum())
        10
    """
    bias = targets.clone()
    for label in range(n_classes):
        members, others = _shuffled(targets, label, n_classes, generator)
        rest = members[int(len(members) * rho) :]
        chunk = math.ceil(len(rest) / (n_classes - 1))
        bias[rest] = others.repeat_interleave(chunk)[: len(rest)]
    return bias


def balanced_biases(
    targets: Tensor, n_classes: int, rho: float, generator: torch.Generator
) -> Tensor:
    """Bias labels with `round((1 - rho) * n)` conflicting images in each class of n.

    The other labels take turns, so that their counts within a class differ by one at most; with
    `rho = 1 / n_classes` the bias says nothing of the class. What conflicts at one rho
    conflicts, with the same bias label, at every lower one.

    Args:
        targets: `[N]` int64.
        n_classes: Number of classes, which is also the number of bias labels.
        rho: Share of bias-aligned images in each class.
        generator: Decides the draw.

    Returns:
        `[N]` int64, the bias label of each image.

    Example:
        >>> targets = torch.zeros(30, dtype=torch.int64)
        >>> bias = balanced_biases(targets, 3, 0.9, torch.Generator().manual_seed(0))
        >>> torch.bincount(bias).tolist() in ([27, 2, 1], [27, 1, 2])
        True
    """
    bias = targets.clone()
    for label in range(n_classes):
        members, others = _shuffled(targets, label, n_classes, generator)
        conflicting = members[: round((1 - rho) * len(members))]
        bias[conflicting] = others[torch.arange(len(conflicting)) % (n_classes - 1)]
    return bias


def jitter(colours: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Adds Gaussian noise to each channel of colours `[N, 3]` and clamps to [0, 1]."""
    return (colours + deviation * torch.randn(colours.shape, generator=generator)).clamp_(0, 1)


def blend(gray: Tensor, front: Tensor, back: Tensor) -> Tensor:
    """Paints `front` over `back`, each pixel as opaque as it is bright.

    Args:
        gray: `[N, H, W]` in [0, 1]: 1 shows the front, 0 the back.
        front: `[N, 3]` or `[1, 3]`, one colour an image.
        back: `[N, 3]` or `[1, 3]`.

    Returns:
        `[N, 3, H, W]`, `gray * front + (1 - gray) * back`.
    """
    return torch.lerp(back[:, :, None, None], front[:, :, None, None], gray[:, None])


def paint_patch(images: Tensor, colours: Tensor, size: int) -> Tensor:
    """A copy of `images` `[N, 3, H, W]` with a square of `colours` `[N, 3]` top left."""
    painted = images.clone()
    painted[:, :, :size, :size] = colours[:, :, None, None]
    return painted


def fill_background(gray: Tensor, colours: Tensor) -> Tensor:
    """Bahng's painting: black pixels take the colour, every other pixel becomes white.

    Args:
        gray: `[N, H, W]` uint8.
        colours: `[N, 3]` uint8.

    Returns:
        `[N, 3, H, W]` uint8.
    """
    return torch.where(gray[:, None] == 0, colours[:, :, None, None], 255)


def quantise(images: Tensor) -> Tensor:
    """Rounds images in [0, 1] to uint8; what lies outside is clamped."""
    return (images * 255).round_().clamp_(0, 255).to(torch.uint8)


def _shuffled(
    targets: Tensor, label: int, n_classes: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The images of a class, and the other labels, each in random order."""
    members = (targets == label).nonzero().flatten()
    members = members[torch.randperm(len(members), generator=generator)]
    others = label + 1 + torch.randperm(n_classes - 1, generator=generator)
    return members, others % n_classes
