"""Random axis-parallel trees as arrays, and the routing of rows to their leaves.

Node j of level k has the children j (value >= threshold, or NaN) and j + 2^k (value < threshold)
of level k + 1. So the masses of a level are the sum of the two halves of the next level's, and the
ancestors of a leaf are the leaf modulo 2^k. Arrays are `[node, tree, ...]`, levels from the root.
"""

from __future__ import annotations

import torch
from torch import Tensor

PADDING = 0.15  # a threshold keeps this share of its range clear of both ends


def heap_position(k: int) -> Tensor:
    """Return where the stored nodes of level `k` stand from left to right, `[2^k]` int64.

    Example:
        >>> heap_position(2)
        tensor([3, 1, 2, 0])
    """
    node = torch.arange(2**k)
    position = torch.zeros_like(node)
    for depth in range(k):
        position = 2 * position + 1 - (node >> depth & 1)
    return position


def random_trees(
    n_trees: int, height: int, n_features: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw perfect trees over the unit cube.

    A node's feature is uniform (Tan, Ting and Liu, "Fast Anomaly Detection for Streaming Data",
    IJCAI 2011); its threshold is uniform over what earlier splits left of that feature's range,
    less `PADDING` at both ends.

    Returns:
        Features, int32, and thresholds, float32 in (0, 1), both `[2^height - 1, n_trees]`.
    """
    features: list[Tensor] = []
    thresholds: list[Tensor] = []
    for k in range(height):
        node = torch.arange(2**k)
        feature = torch.randint(n_features, (2**k, n_trees), generator=generator)
        low, high = torch.zeros(2**k, n_trees), torch.ones(2**k, n_trees)
        for depth in range(k):
            ancestor = node % 2**depth
            same = features[depth][ancestor] == feature
            below = (node >> depth & 1).bool()[:, None]
            high = torch.where(same & below, thresholds[depth][ancestor], high)
            low = torch.where(same & ~below, thresholds[depth][ancestor], low)
        share = PADDING + (1 - 2 * PADDING) * torch.rand(2**k, n_trees, generator=generator)
        features.append(feature)
        thresholds.append(low + share * (high - low))
    return torch.cat(features).int(), torch.cat(thresholds)


def levels(nodes: Tensor) -> tuple[Tensor, ...]:
    """Return views of the levels of `[2^K - 1, ...]`, the root's first."""
    return torch.split(nodes, [2**k for k in range(len(nodes).bit_length())])


class NodeMasses:
    """Masses of all nodes, summed up from the leaves' in a workspace.

    Args:
        leaves: leaf masses `[L, ...]`; only their shape and device matter.
        dtype: what masses are summed in.

    Attributes:
        nodes: `[2L - 1, ...]`.
        levels: its levels, the root's first.
    """

    def __init__(self, leaves: Tensor, dtype: torch.dtype) -> None:
        nodes = 2 * len(leaves) - 1
        self.nodes = leaves.new_zeros(nodes, *leaves.shape[1:], dtype=dtype)
        self.levels = levels(self.nodes)
        upwards = zip(self.levels[:0:-1], self.levels[-2::-1], strict=True)
        self._steps = [(*children.chunk(2), parent) for children, parent in upwards]

    def sum(self, leaves: Tensor) -> None:
        """Set the leaves, and all above them."""
        self.levels[-1].copy_(leaves)
        for child, other, parent in self._steps:
            torch.add(child, other, out=parent)


class Router:
    """Routes rows to the leaves of all trees, in a workspace it makes once a batch size.

    On a CPU the temporaries of the obvious code cost more than its arithmetic. So all is written
    `out=`, by `index_select`, and comparisons in the dtype of what they compare.
    """

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()

    def __getstate__(self) -> dict[str, object]:
        return {"_key": ()}

    def forget(self) -> None:
        """Make the workspace anew: the features of the trees were changed in place."""
        self._key = ()

    def __call__(self, x: Tensor, feature: Tensor, cut: Tensor) -> Tensor:
        """Return `leaf * T + tree` of every row and tree, `[B, T]` int32, until the next call.

        Args:
            x: contiguous float32 `[B, D]`.
            feature: int32 `[nodes, T]`.
            cut: thresholds, float32 `[nodes, T]`.
        """
        key = (x.shape, x.device, feature.data_ptr(), cut.data_ptr())
        if key != self._key:
            self._prepare(x, feature, cut)
            self._key = key
        self._route(x, cut)
        return self._node

    def _route(self, x: Tensor, cut: Tensor) -> None:
        values = x.view(-1)
        node, below, column, value, limit = self._flat
        torch.index_select(values, 0, self._first, out=value)
        torch.lt(self._value, cut[0], out=self._value)
        below.copy_(value)
        torch.add(self._root, below, alpha=self._trees, out=node)
        for nodes, features, cuts in self._levels:
            torch.index_select(features, 0, node, out=column)
            self._column.add_(self._row)
            torch.index_select(values, 0, column, out=value)
            torch.index_select(cuts, 0, node, out=limit)
            torch.lt(value, limit, out=value)
            below.copy_(value)
            node.add_(below, alpha=nodes)

    def _prepare(self, x: Tensor, feature: Tensor, cut: Tensor) -> None:
        (rows, columns), trees = x.shape, cut.shape[1]
        with torch.inference_mode(False):
            row = torch.arange(rows, dtype=torch.int32, device=x.device)[:, None]
            self._trees, self._row = trees, row * columns
            self._root = torch.arange(trees, dtype=torch.int32, device=x.device).repeat(rows)
            self._first = (feature[0] + self._row).view(-1)
            whole = torch.empty((3, rows, trees), dtype=torch.int32, device=x.device)
            real = torch.empty((2, rows, trees), dtype=cut.dtype, device=x.device)
            self._node, _, self._column = whole.unbind()
            self._value, _ = real
            self._flat = (*whole.flatten(1), *real.flatten(1))
            self._levels = [
                (features.numel(), features.view(-1), cuts.view(-1))
                for features, cuts in zip(levels(feature)[1:], levels(cut)[1:], strict=True)
            ]
