"""The protocol of "Learning from Failure": who gets which bias, and the arrays it leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from online_debias.data.images import Images


def arrays_tree(name: str) -> str:
    """The tree of files that is looked for, to be printed.

    Example:
        >>> print(arrays_tree("ColoredMNIST"))
        ColoredMNIST-Skewed0.02-Severity4/  (or another share, another severity)
            train/images.npy                (uint8, N x height x width x 3)
            train/attrs.npy                 (a row an image: class, bias)
            valid/images.npy
            valid/attrs.npy
    """
    return (
        f"{f'{name}-Skewed0.02-Severity4/':<36}(or another share, another severity)\n"
        "    train/images.npy                (uint8, N x height x width x 3)\n"
        "    train/attrs.npy                 (a row an image: class, bias)\n"
        "    valid/images.npy\n"
        "    valid/attrs.npy"
    )


def cumulative_biases(targets: Tensor, n_classes: int, skew: float) -> Tensor:
    """Bias labels by the recipe of "Learning from Failure" (Nam et al., NeurIPS 2020).

    Nothing is drawn. In a class of n images, bias b is to have the share `1 - skew` if b is the
    class and `skew / (n_classes - 1)` if not; the images in their order get bias 0, then 1, and so
    on, each up to the rounded cumulated share.

    Args:
        targets: `[N]` int64.
        n_classes: Number of classes, which is also the number of bias labels.
        skew: Share of bias-conflicting images; `1 - 1 / n_classes` is no bias at all.

    Returns:
        `[N]` int64, the bias label of each image.

    Example:
        >>> cumulative_biases(torch.tensor([0] * 10 + [1] * 10), 2, 0.2)
        tensor([0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1])
    """
    bias = torch.empty_like(targets)
    for label in range(n_classes):
        members = (targets == label).nonzero().flatten()
        shares = torch.full((n_classes,), skew / (n_classes - 1), dtype=torch.float64)
        shares[label] = 1 - skew
        ends = (len(members) * shares.cumsum(0)).round()
        ends[-1] = len(members)  # rounding errors of the sum leave nobody out
        bias[members] = torch.searchsorted(ends, torch.arange(len(members)), right=True)
    return bias


def find_arrays(root: Path, name: str, skew: float, severity: int) -> Path | None:
    """Returns the folder of a released set below `root`, or None.

    Args:
        root: The folder that holds it, or the folder itself.
        name: Such as `"ColoredMNIST"` or `"CorruptedCIFAR10-Type0"`.
        skew: Share of bias-conflicting images, in the folder's name.
        severity: In the folder's name too.
    """
    full_name = f"{name}-Skewed{skew:g}-Severity{severity}"
    for folder in (root / full_name, root):
        if folder.resolve().name == full_name and (folder / "train" / "images.npy").is_file():
            return folder
    return None


def read_arrays(folder: Path, split: str, classes: tuple[str, ...]) -> Images:
    """Reads a split, `"train"` or `"valid"`, of a released set.

    `attr_names.pkl`, which lies beside, is never read: pickles can run code.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged or holds something else; it is named.
    """
    pixels = _load(folder / split / "images.npy")
    attributes = _load(folder / split / "attrs.npy").long()
    if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.dtype != torch.uint8:
        kind = str(pixels.dtype).removeprefix("torch.")
        raise ValueError(
            f"'{folder / split / 'images.npy'}' must hold uint8 images N x height x width x 3, "
            f"not {list(pixels.shape)} {kind}: fetch it again."
        )
    if attributes.shape != (len(pixels), 2):
        raise ValueError(
            f"'{folder / split / 'attrs.npy'}' must hold class and bias of each of the "
            f"{len(pixels)} images, not {list(attributes.shape)}: fetch it again."
        )
    targets, bias = attributes.T.contiguous()
    return Images(pixels.permute(0, 3, 1, 2).contiguous(), targets, bias, classes)


def _load(path: Path) -> Tensor:
    if not path.is_file():
        raise FileNotFoundError(f"'{path}' is missing: fetch the released set again.")
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False))
    except (ValueError, EOFError, TypeError) as error:
        raise ValueError(f"'{path}' is not a plain array ({error}): fetch it again.") from None
