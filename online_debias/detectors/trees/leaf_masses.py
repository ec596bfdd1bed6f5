"""What detectors share that keep the mass of each class in every leaf of a random forest."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from online_debias.detectors.class_buckets import bucket_of
from online_debias.detectors.folding import Folding
from online_debias.detectors.normalizer import NormalCDF
from online_debias.detectors.trees.compiled import add_mass as compiled_add_mass
from online_debias.detectors.trees.forest import Forest
from online_debias.detectors.trees.mass import MassTable, add_mass
from online_debias.detectors.trees.posterior_table import PosteriorTable
from online_debias.runtime.seeds import generator

Table = TypeVar("Table", MassTable, PosteriorTable)


class LeafMasses(Folding, Generic[Table]):
    """A forest of random splits that remembers which classes fall into which region.

    Trees do not depend on the data; all they learn is mass. A row adds its mass to the open window
    of its class and leaves. A window that closes becomes part of the reference (`reference =
    retention * reference + open`), of which a table is made that scores are read from. The rows of
    the first window only set the scale of the features. Whoever derives from this says which table
    (`_new_table`), how rows are counted (`_count`) and how they are judged (`_judge`).

    Attributes:
        open: masses of the open windows, `[leaf, tree, class]`.
        reference: masses that scores are read from, `[leaf, tree, class]`.

    Args:
        n_trees, height, fold, retention, most_buckets, compiled: see `HalfSpaceTrees`.

    Raises:
        ValueError: if a setting is out of range.
    """

    forest: Forest
    open: Tensor
    reference: Tensor
    blocks = 1  # of features, each with trees of its own; see `BlockTrees`
    normalizes = True  # False takes features as they are
    _table: Table | None = None
    _stale = True  # the table is older than the reference

    def __init__(
        self,
        n_trees: int,
        height: int,
        fold: int,
        retention: float,
        most_buckets: int,
        compiled: bool,
    ) -> None:
        for name, value, valid, expected in (
            ("n_trees", n_trees, n_trees >= 1, "at least 1"),
            ("height", height, 1 <= height <= 20, "1 to 20"),
            ("fold", fold, fold >= 1, "at least 1"),
            ("retention", retention, 0 <= retention < 1, "in [0, 1)"),
            ("most_buckets", most_buckets, most_buckets >= 2, "at least 2"),
        ):
            if not valid:
                raise ValueError(f"{name} is {value!r}, but must be {expected}.")
        super().__init__(fold, retention)
        self.n_trees, self.height = n_trees, height
        self.most_buckets, self.compiled = most_buckets, compiled
        self._add = compiled_add_mass if compiled else add_mass

    def setup(self, n_features: int, n_classes: int, device: torch.device | str, seed: int) -> None:
        """Draw the trees and make empty masses; see `Detector.setup`."""
        super().setup(n_features, n_classes, device, seed)
        self._table, self._stale = None, True
        scale = NormalCDF(n_features, self.retention, device) if self.normalizes else None
        random = generator("cpu", seed, "half_space_trees")
        forest = self.n_trees, self.height, n_features, scale, random, device, self.blocks
        self.forest = Forest(*forest, compiled=self.compiled)
        self.n_buckets = min(n_classes, self.most_buckets) if self.class_conditional else 1
        shape = (2**self.height, self.n_trees, self.n_buckets)
        for name in ("open", "reference"):
            self.register_buffer(name, torch.zeros(shape, device=device))

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Take back the counters; the table is made anew when next needed."""
        super().set_extra_state(state)
        self._stale = True

    def _read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.forest.route(x)

    def _observe(self, read: tuple[Tensor, Tensor], targets: Tensor, mass: Tensor) -> None:
        x, leaf = read
        scale = self.forest.normalizer
        if scale is not None:
            scale.observe(x, mass)
        if scale is None or self.folds:  # before the first fold the cuts mean nothing
            self._count(leaf, self._buckets(targets), mass)

    def _close(self) -> None:
        self.forest.fold()

    def _close_masses(self) -> None:
        torch.add(self.open, self.reference, alpha=self.retention, out=self.reference)
        torch.threshold_(self.reference, 1e-20, 0.0)  # subnormal numbers would be slow
        self.open.zero_()
        self._stale = True

    def _buckets(self, targets: Tensor) -> Tensor:
        return bucket_of(targets, self.n_buckets, self.n_classes) if self.n_buckets > 1 else targets

    def _fresh_table(self) -> Table:
        if self._table is None or self._table.device != self.reference.device:
            with torch.inference_mode(False):  # or only inference mode could refresh it
                self._table = self._new_table()
            self._stale = True
        if self._stale:
            self._table.refresh(self.reference)
            self._stale = False
        return self._table

    def _new_table(self) -> Table:
        """A table for masses of the shape of `reference`, on its device."""
        raise NotImplementedError

    def _count(self, leaf: Tensor, buckets: Tensor, mass: Tensor) -> None:
        """Add rows in leaves `[B, T]`, of buckets of classes `[B]`, to the open windows."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_table": None}
