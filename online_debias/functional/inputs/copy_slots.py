"""Which rows are copied into a fixed number of slots."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def n_slots(n_rows: int, capacity: float) -> int:
    """Return a multiple of 8 near capacity * rows, at least 8; 0 for fewer than 8 rows.

    Multiples of 8 suit the hardware, and most numbers of ranks.

    Example:
        >>> n_slots(128, 0.25), n_slots(48, 0.1), n_slots(7, 0.25)
        (32, 8, 0)
    """
    return max(8, 8 * round(capacity * n_rows / 8)) if n_rows >= 8 else 0


class Slots(NamedTuple):
    """What each of K slots holds.

    Attributes:
        row: `[K]` int64, the row it holds.
        kind: `[K]` int64, which variation; consecutive numbers for the slots of a row.
        used: `[K]` bool, whether it is a copy of a flagged row; else it only fills the batch.
    """

    row: Tensor
    kind: Tensor
    used: Tensor


def fill_slots(score: Tensor, flagged: Tensor, n_slots: int, copies: int) -> Slots:
    """Give flagged rows up to `copies` slots each, by score, round after round.

    If there are more flagged rows than slots, those with the highest scores get one. A row's kinds
    count on from its place by score, so that every kind is used even then. Slots that are left
    hold other rows, all different where there are as many: the same row many times would show in
    batch norm.

    Args:
        score: `[B]`, any value in rows that are not flagged.
        flagged: `[B]` bool.
        n_slots: K.
        copies: most slots of a row.

    Example:
        >>> score, flagged = torch.tensor([0.1, 0.7, 0.9]), torch.tensor([False, True, True])
        >>> fill_slots(score, flagged, n_slots=4, copies=3)._asdict()["row"]
        tensor([2, 1, 2, 1])
    """
    order = torch.where(flagged, score, -torch.inf).argsort(descending=True, stable=True)
    slot = torch.arange(n_slots, device=score.device)
    n_flagged = flagged.sum()
    n = n_flagged.clamp_min(1)
    used = slot < copies * n_flagged
    place = torch.where(used, slot % n, slot % len(score))
    return Slots(order[place], slot // n + place, used)
