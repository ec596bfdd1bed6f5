"""Half-space trees as they were published: how few rows of the class are like this one?"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from online_debias.detectors.trees.compiled import CompiledMassTable
from online_debias.detectors.trees.leaf_masses import LeafMasses
from online_debias.detectors.trees.mass import MassTable, close_windows


class MassTrees(LeafMasses[MassTable]):
    """A streaming forest of random splits that scores rows by how empty their regions are.

    The score is that of Tan, Ting and Liu, "Fast Anomaly Detection for Streaming Data" (IJCAI
    2011), as river computes it, for each class by itself: high means few rows like this in the
    class. There is no posterior, so a row has no bias value; `HalfSpaceTrees` has both.

    Each class's window closes after exactly `fold` of its rows, also within a batch. With
    `classes=False, retention=0, normalizer="none"` and river's trees (`plant`), scores equal
    river's to the last bit. With `normalizer="cdf"` the first rows, a quarter of `fold`, only set
    the scale of the features.

    Attributes:
        open: masses of the open windows, `[leaf, tree, class]`.
        reference: masses that scores are read from, `[leaf, tree, class]`.

    Args:
        n_trees: number of trees.
        height: splits from root to leaf.
        fold: rows a window.
        retention: what the reference keeps when a window closes, in [0, 1).
        classes: False pools all classes: for comparison, not for weighting.
        normalizer: "cdf" follows each feature's mean and deviation; "none" takes features as they
            are, in [0, 1] for trees to be of use.
        most_buckets: masses are kept for so many classes; of more, those with the same remainder
            share them.
        compiled: whether numba routes and counts the rows, on a CPU only; see `HalfSpaceTrees`.

    Raises:
        ValueError: if a setting is out of range.
        ConfigError: in `setup`, numba is asked for, but not installed.

    Example:
        >>> trees = MassTrees(fold=64, normalizer="none")
        >>> trees.setup(n_features=4, n_classes=1, device="cpu", seed=0)
        >>> x, y = torch.rand(64, 4) / 2, torch.zeros(64, dtype=torch.int64)
        >>> trees.learn(x, y, torch.ones(64))
        >>> bool(trees.score(x, y).max() < trees.score(x + 0.5, y).max())
        True
    """

    count: Tensor

    def __init__(
        self,
        n_trees: int = 100,
        height: int = 6,
        fold: int = 512,
        retention: float = 0.88,
        classes: bool = True,
        normalizer: Literal["cdf", "none"] = "cdf",
        most_buckets: int = 1024,
        compiled: bool = False,
    ) -> None:
        super().__init__(n_trees, height, fold, retention, most_buckets, compiled)
        if normalizer not in ("cdf", "none"):
            raise ValueError(f"normalizer is {normalizer!r}, but must be 'cdf' or 'none'.")
        self.class_conditional, self.normalizes = classes, normalizer == "cdf"
        self.counted = 0  # rows whose mass was counted

    def setup(self, n_features: int, n_classes: int, device: torch.device | str, seed: int) -> None:
        """Draw the trees and make empty masses; see `Detector.setup`."""
        super().setup(n_features, n_classes, device, seed)
        self.counted = 0
        if self.class_conditional:
            count = torch.zeros(self.n_buckets, dtype=torch.int64, device=device)
            self.register_buffer("count", count)

    def plant(self, feature: Tensor, threshold: Tensor) -> None:
        """Use these trees instead of random ones, before anything is learned; see `Forest.plant`.

        Raises:
            ValueError: if shapes or features do not fit, or if rows were learned already.
        """
        if self.rows or self.folds:
            raise ValueError("trees cannot be planted after rows were learned: call setup() again")
        self.forest.plant(feature, threshold)

    @property
    def ready(self) -> bool:
        """Whether a score can differ from 0: known from the number of rows alone."""
        return self.counted >= self.window

    @torch.no_grad()
    def exact_score(self, x: Tensor, targets: Tensor) -> Tensor:
        """Return `score` as it was computed: `[B]` float64."""
        self._check(x, targets)
        return self._exact(self._read(x.float()), targets)

    def get_extra_state(self) -> dict[str, int]:
        """Return the counters."""
        return super().get_extra_state() | {"counted": self.counted}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Take back the counters."""
        super().set_extra_state(state)
        self.counted = state["counted"]

    def _exact(self, read: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
        return self._fresh_table().read(read[1], self._buckets(targets))[0]

    def _judge(self, read: tuple[Tensor, Tensor], targets: Tensor) -> tuple[Tensor, None]:
        return self._exact(read, targets).float(), None

    def _count(self, leaf: Tensor, buckets: Tensor, mass: Tensor) -> None:
        if self.class_conditional:
            masses = self.open, self.reference, self.count
            close_windows(*masses, leaf, buckets, mass, self.window, self.retention)
            self._stale = True  # only the device knows whether a window closed
        else:
            self._count_pooled(leaf, mass)
        self.counted += len(leaf)

    def _count_pooled(self, leaf: Tensor, mass: Tensor) -> None:
        start, stop = 0, self.window - self.counted % self.window
        while stop <= len(leaf):
            self._add(self.open, leaf[start:stop], None, mass[start:stop])
            self._close_masses()
            start, stop = stop, stop + self.window
        if start:
            leaf, mass = leaf[start:], mass[start:]
        self._add(self.open, leaf, None, mass)

    def _new_table(self) -> MassTable:
        table = CompiledMassTable if self.compiled else MassTable
        return table(self.reference)
