"""Cells of grids laid over a flat feature map, and the means over them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def check_grids(grids: Sequence[int], such_as: Sequence[int]) -> None:
    """Raise ValueError unless sides rise, from the first of the example's on."""
    if not grids or list(grids) != sorted(set(grids)) or grids[0] < such_as[0]:
        raise ValueError(
            f"grids is {list(grids)}, but must be rising sides from {such_as[0]} on, such as "
            f"{list(such_as)}."
        )


def map_width(n_features: int, side: int, tap: str) -> int:
    """Return the channels of a flat map on a grid; raise ValueError if it is none.

    Args:
        n_features: width of a row.
        side: of the grid.
        tap: a default tap that comes on it, for the message.
    """
    width, odd = divmod(n_features, side**2)
    if odd:
        raise ValueError(
            f"{n_features} features are no map on a {side}x{side} grid: read a tap with "
            f"pool={side}, such as {tap!r}, or choose other grids"
        )
    return width


def grid_cells(grids: Sequence[int], side: int, device: torch.device | str) -> Tensor:
    """Return what each place of a map of `side` x `side` adds to the mean of each cell.

    `[side**2, views]`; cells come grid by grid, row by row.

    Args:
        grids: sides of the grids.
        side: of the map.
        device: where to.

    Example:
        >>> grid_cells([1, 2], side=2, device="cpu")[0]
        tensor([0.2500, 1.0000, 0.0000, 0.0000, 0.0000])
    """
    places = torch.eye(side**2, device=device).view(-1, 1, side, side)
    return torch.cat([F.adaptive_avg_pool2d(places, grid).flatten(1) for grid in grids], 1)


def cell_means(x: Tensor, cells: Tensor) -> Tensor:
    """Return `[B, views, width]` of maps `[B, D]`; one product is far cheaper than pooling.

    Args:
        x: flat maps, channel by channel.
        cells: `[places, views]`, see `grid_cells`.

    Example:
        >>> cell_means(torch.tensor([[1.0, 1, 3, 3]]), grid_cells([1, 2], 2, "cpu")).flatten()
        tensor([2., 1., 1., 3., 3.])
    """
    means = x.float().reshape(-1, len(cells)) @ cells
    return means.view(len(x), -1, cells.shape[1]).transpose(1, 2).contiguous()


def named_place(share: Tensor) -> str:
    """Return where on a map most of `share` `[side, side]` is, for people; the host waits for it.

    Args:
        share: parts of a whole, `side` even.

    Example:
        >>> share = torch.zeros(4, 4)
        >>> share[0, 2:] = 0.5
        >>> named_place(share), named_place(share.T.flip(1)), named_place(torch.ones(4, 4))
        ('top right', 'bottom right', 'middle')
    """
    words = []
    for axis, (before, after) in ((1, ("top", "bottom")), (0, ("left", "right"))):
        half = share.sum(axis).view(2, -1).sum(1)
        more = float((half[0] - half[1]) / half.sum().clamp_min(1e-12))
        if abs(more) > 1 / 3:
            words.append(before if more > 0 else after)
    return " ".join(words) or "middle"
