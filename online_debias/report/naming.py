"""How samples are chosen and called where people read of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from online_debias.data import Images


def top(value: Tensor, count: int) -> list[int]:
    """Return the places of the highest values above 0, at most `count` of them; NaN is none.

    Example:
        >>> import torch
        >>> top(torch.tensor([0.2, torch.nan, 0.0, 0.9]), 3)
        [3, 0]
    """
    order = value.nan_to_num(0.0).argsort(descending=True, stable=True)[:count]
    return [place for place in order.tolist() if value[place] > 0]


def suspected(noise: Tensor | None, results: Mapping[str, Any]) -> list[int]:
    """Return the places that are suspected of a wrong label, the most likely first.

    Args:
        noise: `[N]`, how likely each label is wrong; NaN is none; None where nobody said.
        results: with `suspected_noise`, how many the run itself suspected; without it, those that
            are more likely wrong than right.

    Example:
        >>> import torch
        >>> suspected(torch.tensor([0.6, 0.1, 0.9]), {"suspected_noise": 1})
        [2]
        >>> suspected(torch.tensor([0.6, 0.1, 0.9]), {})
        [2, 0]
    """
    if noise is None:
        return []
    return top(noise, int(results.get("suspected_noise", (noise > 0.5).sum())))


def name_of(place: int, images: Images) -> str:
    """Return what people find a sample by: its file or, if it is of none, its index."""
    if not images.paths:
        return f"#{place}"
    return images.paths[place].encode(errors="replace").decode()  # a file's name need not be text


def seen_as(group: int, classes: tuple[str, ...]) -> str:
    """Return what the biased view takes a sample for: a class, or a value beyond the classes.

    Example:
        >>> seen_as(1, ("cat", "dog")), seen_as(5, ("cat", "dog")), seen_as(-1, ("cat", "dog"))
        ('dog', 'bias value 5', '-')
    """
    if group < 0:
        return "-"
    return classes[group] if group < len(classes) else f"bias value {group}"
