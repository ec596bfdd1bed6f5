"""A forest over features of any scale: random trees, a normaliser, and routing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from online_debias.detectors.normalizer import NormalCDF
from online_debias.detectors.trees.compiled import CompiledRouter
from online_debias.detectors.trees.trees import Router, heap_position, random_trees


class Forest(nn.Module):
    """Trees over the unit cube, compared with raw features through thresholds mapped back.

    Args:
        n_trees: number of trees.
        height: splits from root to leaf.
        n_features: width of a row.
        normalizer: maps features to [0, 1]; None takes them as they are.
        generator: draws the trees, on the CPU, so that devices do not matter.
        device: where the buffers live.
        blocks: features come in so many blocks of one width; a tree splits within its block, and
            the trees of a block stand side by side.
        compiled: whether numba routes the rows; on a CPU only.
    """

    feature: Tensor
    threshold: Tensor
    cut: Tensor

    def __init__(
        self,
        n_trees: int,
        height: int,
        n_features: int,
        normalizer: NormalCDF | None,
        generator: torch.Generator,
        device: torch.device | str,
        blocks: int = 1,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        self.height, self.n_features, self.normalizer = height, n_features, normalizer
        nodes = (2**height - 1, n_trees)
        self.register_buffer("feature", torch.zeros(nodes, dtype=torch.int32, device=device))
        for name in ("threshold", "cut"):
            self.register_buffer(name, torch.zeros(nodes, device=device))
        self._router = CompiledRouter() if compiled else Router()
        width = n_features // blocks
        feature, threshold = random_trees(n_trees, height, width, generator)
        block = torch.arange(n_trees, dtype=torch.int32) * blocks // n_trees
        self._take(feature + block * width, threshold)

    def plant(self, feature: Tensor, threshold: Tensor) -> None:
        """Replace the trees.

        Args:
            feature: `[T, 2^height - 1]`, nodes in heap order (children of i: 2i + 1, 2i + 2).
            threshold: the same shape; values below it go left.

        Raises:
            ValueError: if shapes or features do not fit.
        """
        shape = self.feature.T.shape
        if feature.shape != shape or threshold.shape != shape:
            raise ValueError(
                f"features and thresholds have shapes {list(feature.shape)} and "
                f"{list(threshold.shape)}, but this forest holds {list(shape)}"
            )
        if feature.min() < 0 or feature.max() >= self.n_features:
            raise ValueError(f"trees may split on features 0 to {self.n_features - 1} only")
        order = torch.cat([2**k - 1 + heap_position(k) for k in range(self.height)])
        self._take(feature.T[order], threshold.T[order])

    def _take(self, feature: Tensor, threshold: Tensor) -> None:
        if self.normalizer is not None:
            threshold = torch.special.ndtri(threshold)
        # Rounded up: a float32 value is then below it exactly if it is below the float64 one.
        single = threshold.float()
        above = torch.nextafter(single, torch.tensor(torch.inf))
        self.threshold.copy_(torch.where(single.double() < threshold.double(), above, single))
        self.feature.copy_(feature)
        self.cut.copy_(self.threshold)
        self._router.forget()

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._router.forget()

    def fold(self) -> None:
        """Let the normaliser catch up with the rows it observed."""
        if self.normalizer is not None:
            self.normalizer.fold()
            self.cut.copy_(self.normalizer.cuts(self.feature, self.threshold))

    def route(self, x: Tensor) -> Tensor:
        """Return `leaf * T + tree` for float32 rows `[B, D]`, as `[B, T]` int32.

        The answer holds until the next call.
        """
        return self._router(x.contiguous(), self.feature, self.cut)
