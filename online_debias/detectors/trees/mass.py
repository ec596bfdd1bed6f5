"""Mass scores in river's semantics: sparse regions score high, windows close at exact counts."""

from __future__ import annotations

import torch
from torch import Tensor

from online_debias.detectors.trees.trees import NodeMasses, levels

SIZE_LIMIT = 0.1  # share of the window below which a walk stops


class MassTable:
    """What every leaf contributes to the scores, made anew when windows closed.

    A leaf's path mass is the sum over its path of mass times 2^depth. The path ends at the first
    node with less than `SIZE_LIMIT` of the window's mass. All of it hangs on the leaf alone, so
    scoring is one look-up a tree. Integers stay exact: the sum over trees is river's to the last
    bit.

    Args:
        reference: leaf masses `[L, T, G]`; only their shape and device matter.
    """

    def __init__(self, reference: Tensor) -> None:
        self.device = reference.device
        self._masses = NodeMasses(reference, torch.float64)
        self._goes_on = torch.zeros_like(self._masses.nodes)
        self._table = torch.zeros_like(self._masses.levels[-1])
        downwards = zip(levels(self._goes_on), self._masses.levels[1:], strict=False)
        self._steps = [
            (2**depth, parent, *masses.chunk(2), *self._table[: len(masses)].chunk(2))
            for depth, (parent, masses) in enumerate(downwards, start=1)
        ]
        self._most = reference.shape[1] * len(self._masses.nodes)

    def refresh(self, reference: Tensor) -> None:
        """Make the table from the leaf masses of the last closed windows."""
        self._masses.sum(reference)
        root = self._masses.levels[0]
        torch.ge(self._masses.nodes, SIZE_LIMIT * root, out=self._goes_on)
        self._table[:1] = root
        for weight, parent, masses, masses_below, table, below in self._steps:
            torch.addcmul(table, masses_below, parent, value=weight, out=below)
            table.addcmul_(masses, parent, value=weight)

    def read(self, leaf: Tensor, targets: Tensor) -> tuple[Tensor, None]:
        """Return scores in [0, 1], `[B]` float64, high where mass is low; 0 before a window closed.

        Args:
            leaf: where each row falls, `leaf * T + tree`, `[B, T]`.
            targets: bucket of each row, `[B]` int64; not read if there is one bucket only.
        """
        most = self._masses.nodes[0, 0] * self._most
        if len(most) > 1:
            leaf, most = of_bucket(leaf, targets, len(most)), most[targets]
        path_mass = self._table.view(-1).index_select(0, leaf.view(-1)).view_as(leaf).sum(1)
        return (1 - path_mass / most).nan_to_num(0.0), None


def close_windows(
    open_masses: Tensor,
    reference: Tensor,
    count: Tensor,
    leaf: Tensor,
    bucket: Tensor,
    mass: Tensor,
    window: int,
    retention: float,
) -> None:
    """Learn a batch in place, closing each bucket's window after exactly `window` of its rows.

    Several windows may close in one batch: a row that is in the n-th last of them is worth
    `retention^(n - 1)` in the reference, the same as when rows come one by one.

    Args:
        open_masses: leaf masses of the open windows, `[L, T, G]`.
        reference: leaf masses of the closed windows, `[L, T, G]`.
        count: rows in the open windows, `[G]` int64.
        leaf: where each row falls, `leaf * T + tree`, `[B, T]`.
        bucket: bucket of each row, `[B]` int64.
        mass: what a row counts for, `[B]`.
        window: rows a window.
        retention: what the reference keeps when a window closes; river has 0.
    """
    buckets = torch.arange(len(count), device=count.device)
    member = (bucket[:, None] == buckets).long()
    place = count[bucket] + (member.cumsum(0) * member).sum(1) - 1
    count += member.sum(0)
    closed = count.div(window, rounding_mode="floor")
    count %= window
    since = closed[bucket] - 1 - place.div(window, rounding_mode="floor")  # -1: still open
    power = torch.pow(retention, since.clamp_min(0))
    carried = torch.where(closed > 0, torch.pow(retention, (closed - 1).clamp_min(0)), 0)
    reference *= torch.pow(retention, closed)
    reference += open_masses * carried
    open_masses *= closed == 0
    add_mass(reference, leaf, bucket, torch.where(since >= 0, mass * power, 0))
    add_mass(open_masses, leaf, bucket, torch.where(since < 0, mass, 0))


def add_mass(masses: Tensor, leaf: Tensor, bucket: Tensor | None, mass: Tensor) -> None:
    """Add each row's mass to its leaf of every tree, in place.

    Args:
        masses: leaf masses `[L, T, G]`.
        leaf: where each row falls, `leaf * T + tree`, `[B, T]`.
        bucket: bucket of each row, `[B]` int64; None if there is one only.
        mass: what a row counts for, `[B]`.
    """
    index = leaf if bucket is None else of_bucket(leaf, bucket, masses.shape[2])
    value = mass[:, None].expand_as(leaf).reshape(-1)
    masses.view(-1).index_add_(0, index.reshape(-1), value)


def of_bucket(leaf: Tensor, bucket: Tensor, buckets: int) -> Tensor:
    """Return the places of leaves `[B, T]` in a flat `[L, T, G]` tensor, `[B, T]` int32."""
    return (leaf * buckets).add_(bucket.int()[:, None])
