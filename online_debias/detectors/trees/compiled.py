"""Loops over rows and trees, compiled by numba: what torch does, to the last bit, on a CPU only.

What torch does in several passes over arrays of all rows and trees, these do while a row's few
numbers stay in the processor's cache. To import numba and to compile takes some seconds, once a
process; see docs/performance.md for when that pays.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from online_debias.detectors.trees.mass import SIZE_LIMIT, MassTable
from online_debias.detectors.trees.trees import Router
from online_debias.errors import ConfigError


class CompiledRouter(Router):
    """Routes rows to the leaves of all trees, one row after the other, as `Router` does.

    Raises:
        ConfigError: numba is not installed.
        ValueError: in a call, the rows are not on the CPU.
    """

    def __init__(self) -> None:
        _kernels()
        super().__init__()

    def _prepare(self, x: Tensor, feature: Tensor, cut: Tensor) -> None:
        if x.device.type != "cpu":
            raise ValueError(f"compiled trees read rows on the CPU, not on {x.device}")
        self._node = torch.empty((len(x), cut.shape[1]), dtype=torch.int32)
        self._arrays = feature.numpy(), cut.numpy(), self._node.numpy()

    def _route(self, x: Tensor, cut: Tensor) -> None:
        _kernels().route(x.detach().numpy(), *self._arrays)


class CompiledMassTable(MassTable):
    """What every leaf contributes to the scores, made and read in one pass each."""

    def __init__(self, reference: Tensor) -> None:
        super().__init__(reference)
        self._arrays = self._masses.nodes.numpy(), self._table.numpy()

    def refresh(self, reference: Tensor) -> None:
        """Make the table from the leaf masses of the last closed windows."""
        _kernels().refresh(reference.numpy(), *self._arrays, SIZE_LIMIT)

    def read(self, leaf: Tensor, targets: Tensor) -> tuple[Tensor, None]:
        """Return scores `[B]` float64; see `MassTable`."""
        kernels = _kernels()
        buckets = targets.numpy() if self._masses.nodes.shape[2] > 1 else kernels.no_buckets
        score = torch.empty(len(leaf), dtype=torch.float64)
        kernels.read(*self._arrays, self._most, leaf.numpy(), buckets, score.numpy())
        return score, None


def add_mass(masses: Tensor, leaf: Tensor, bucket: Tensor | None, mass: Tensor) -> None:
    """Add each row's mass to its leaf of every tree, in place; see `mass.add_mass`."""
    kernels = _kernels()
    buckets = kernels.no_buckets if bucket is None else bucket.numpy()
    kernels.add(masses.numpy(), leaf.numpy(), buckets, mass.numpy())


class _Kernels(NamedTuple):
    route: Callable[..., None]
    refresh: Callable[..., None]
    read: Callable[..., None]
    add: Callable[..., None]
    no_buckets: Any  # an array without rows, in the place of buckets of which there is one only


@cache
def _kernels() -> _Kernels:
    try:
        import numba
        import numpy as np
    except ImportError:
        raise ConfigError(
            "compiled=True needs numba; install it with: pip install 'online-debias[compiled]'"
        ) from None

    def route(x: Any, feature: Any, cut: Any, leaf: Any) -> None:
        # Unsigned numbers throughout: others could be negative, and numba would look each time.
        trees = leaf.shape[1]
        features, cuts = feature.reshape(-1), cut.reshape(-1)
        for i in range(len(x)):
            row, nodes = x[i], leaf[i].view(np.uint32)
            first, below = np.uint32(0), np.uint32(trees)
            for tree in range(trees):
                nodes[tree] = np.uint32(tree)
            while first < len(cuts):
                for tree in range(trees):  # innermost, so that the loads of many trees overlap
                    node = first + nodes[tree]
                    goes_below = np.uint32(row[np.uint32(features[node])] < cuts[node])
                    nodes[tree] += goes_below * below  # no branch: none could be foreseen
                first += below
                below += below

    def refresh(reference: Any, masses: Any, paths: Any, size_limit: float) -> None:
        n_leaves, columns = len(reference), reference[0].size  # a tree's bucket in each
        leaves, table = reference.reshape(n_leaves, columns), paths.reshape(n_leaves, columns)
        nodes = masses.reshape(len(masses), columns)
        for i in range(n_leaves):
            for j in range(columns):
                nodes[n_leaves - 1 + i, j] = leaves[i, j]
        width = n_leaves // 2
        while width:  # from the leaves' parents up
            for i in range(width):
                for j in range(columns):
                    child = nodes[2 * width - 1 + i, j]
                    nodes[width - 1 + i, j] = child + nodes[3 * width - 1 + i, j]
            width //= 2
        table[0] = nodes[0]
        width, weight = 1, 2.0
        while width < n_leaves:  # from the root down
            for i in range(width):
                for j in range(columns):
                    path = table[i, j]
                    goes_on = weight * (nodes[width - 1 + i, j] >= size_limit * nodes[0, j])
                    table[i, j] = path + goes_on * nodes[2 * width - 1 + i, j]
                    table[width + i, j] = path + goes_on * nodes[3 * width - 1 + i, j]
            width, weight = 2 * width, 2 * weight

    def read(masses: Any, paths: Any, most: int, leaf: Any, bucket: Any, score: Any) -> None:
        buckets, table = masses.shape[2], paths.reshape(-1)
        for i in range(len(leaf)):
            own = bucket[i] if buckets > 1 else 0
            path, whole = 0.0, masses[0, 0, own] * most
            for tree in range(leaf.shape[1]):
                path += table[np.uint32(leaf[i, tree] * buckets + own)]
            score[i] = 1 - path / whole if whole else 0.0

    def add(masses: Any, leaf: Any, bucket: Any, mass: Any) -> None:
        buckets, flat = masses.shape[2], masses.reshape(-1)
        for i in range(len(leaf)):
            own = bucket[i] if buckets > 1 else 0
            for tree in range(leaf.shape[1]):
                flat[np.uint32(leaf[i, tree] * buckets + own)] += mass[i]

    jit = numba.njit(nogil=True)
    return _Kernels(jit(route), jit(refresh), jit(read), jit(add), np.empty(0, np.int64))
