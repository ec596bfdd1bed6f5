"""Half-space trees on the few places of a feature map that tell the class best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from online_debias.detectors.class_buckets import FEW_BUCKETS, bucket_of, of_classes
from online_debias.detectors.detector import Detector
from online_debias.detectors.posterior import conflict
from online_debias.detectors.trees.block_trees import BlockTrees
from online_debias.detectors.views.grid import cell_means, check_grids, grid_cells, map_width
from online_debias.runtime import seeds


class BestViews(Detector):
    """Looks for the simplest places of a feature map that tell the class, and stays there.

    A bias that a network learns first is simple: a colour, a texture, a mark in one corner. One
    *view*, the mean of a shallow map over one cell of a grid, then tells the class of nearly every
    image, and in the whole map it would drown among views that do not. First a few trees a view
    are learned and asked before they learn, for `scan` rows. Those views are chosen whose answers
    agree with the targets most often, class by class: the best one, and further ones if they are
    nearly as good. From then on a forest reads these alone, its trees shared out among them.

    Until that forest is ready, the view that is best so far gives the scores. Without a bias no
    view tells much: how often the answers agree with the targets says whether there is one
    (`views.ShortcutTest`).

    Attributes:
        chosen: `[slots]` int64, numbers of the chosen views: cells of `grids`, row by row, in that
            order; the best one stands for those that are not good enough.
        agreement: `[views]`, share of rows whose class a view told in the scan, mean over classes.

    Args:
        grids: sides of the grids that cells are taken of; 1 is the whole map. The tapped map must
            come on the finest of them.
        scan: rows seen before a view is chosen.
        scan_trees: trees a view, in the scan.
        slots: most views to choose.
        margin: agreement of a further view, relative to that of the best, that is good enough.
        n_trees: trees of the forest that reads the chosen views, a multiple of `slots`.
        height, fold, retention: of all trees; see `HalfSpaceTrees`.

    Raises:
        ValueError: a setting is out of range or, in `setup`, the features come on another grid.

    Example:
        >>> view = BestViews(grids=(1, 3), scan=512, fold=64)
        >>> view.setup(n_features=2 * 9, n_classes=2, device="cpu", seed=0)
        >>> y = torch.arange(2048) % 2
        >>> maps = torch.randn(2048, 2, 3, 3, generator=torch.Generator().manual_seed(0))
        >>> maps[:, :, 2, 0] += 6 * y[:, None]  # a mark, bottom left
        >>> for rows in torch.arange(2048).split(64):
        ...     view.learn(maps[rows].flatten(1), y[rows], torch.ones(64))
        >>> view.chosen.unique()  # the whole map is view 0, then come nine cells
        tensor([7])
    """

    cells: Tensor
    chosen: Tensor
    right: Tensor
    seen: Tensor
    open_right: Tensor
    open_seen: Tensor
    has_posterior = True

    def __init__(
        self,
        grids: Sequence[int] = (1, 3, 7),
        scan: int = 2048,
        scan_trees: int = 8,
        slots: int = 4,
        margin: float = 0.95,
        n_trees: int = 48,
        height: int = 6,
        fold: int = 512,
        retention: float = 0.88,
    ) -> None:
        super().__init__()
        check_grids(grids, such_as=(1, 3, 7))
        for name, value in (("scan", scan), ("scan_trees", scan_trees), ("slots", slots)):
            if value < 1:
                raise ValueError(f"{name} is {value}, but must be at least 1.")
        if not 0 < margin <= 1:
            raise ValueError(f"margin is {margin}, but must be in (0, 1].")
        self.grids, self.scan = tuple(grids), scan
        self.n_views = sum(side**2 for side in grids)
        self.slots, self.margin = min(slots, self.n_views), margin
        self._settings: dict[str, Any] = {"height": height, "fold": fold, "retention": retention}
        self._scan_trees = scan_trees * self.n_views
        self.scan_forest = self._new_scan_forest()
        self.forest = BlockTrees(n_trees, self.slots, **self._settings)
        self.rows, self.scanning = 0, True  # rows seen in the scan; whether it goes on

    def _new_scan_forest(self) -> BlockTrees:
        return BlockTrees(self._scan_trees, self.n_views, **self._settings)

    def setup(self, n_features: int, n_classes: int, device: torch.device | str, seed: int) -> None:
        """Begin to scan; see `Detector.setup`.

        Raises:
            ValueError: the features are no map on the finest grid.
        """
        super().setup(n_features, n_classes, device, seed)
        side = self.grids[-1]
        width = map_width(n_features, side, "local")
        self.scan_forest = self._new_scan_forest()
        buckets, scan_seed = min(n_classes, FEW_BUCKETS), seeds.derive(seed, "scan")
        self.scan_forest.setup(self.n_views * width, buckets, device, scan_seed)
        self.forest.setup(self.slots * width, n_classes, device, seed)
        self.rows, self.scanning = 0, True
        self.register_buffer("cells", grid_cells(self.grids, side, device), persistent=False)
        chosen = torch.zeros(self.slots, dtype=torch.int64, device=device)
        self.register_buffer("chosen", chosen)
        for name in ("right", "open_right"):
            self.register_buffer(name, torch.zeros(self.n_views, n_classes, device=device))
        for name in ("seen", "open_seen"):
            self.register_buffer(name, torch.zeros(n_classes, device=device))

    @property
    def ready(self) -> bool:
        """Whether a score can differ from 0: known from the number of rows alone."""
        return self.forest.ready or self.scan_forest.ready

    @property
    def agreement(self) -> Tensor:
        """How often each view told the class in the scan, mean over classes, `[views]`."""
        return (self.right / self.seen.clamp_min(1e-12)).mean(1)

    @torch.no_grad()
    def views(self, x: Tensor) -> Tensor:
        """Return the means over the cells of all grids, `[B, views, width]`, of maps `[B, D]`."""
        return cell_means(x, self.cells)

    def score(self, x: Tensor, targets: Tensor) -> Tensor:
        """Return `[B]` float32 in [0, 1], high = bias-conflicting; see `Detector.score`."""
        self._check(x, targets)
        return conflict(self.posterior(x), targets)

    @torch.no_grad()
    def posterior(self, x: Tensor) -> Tensor:
        """Return p(class | the chosen views), `[B, C]`; uniform before `ready`."""
        self._check(x)
        if self.forest.ready:
            return self.forest.posterior(self._chosen(x))
        return self._best_so_far(self.scan_forest.block_posteriors(self.views(x).flatten(1)))

    def learn(self, x: Tensor, targets: Tensor, mass: Tensor) -> None:
        """Add a batch to the trees at work; see `Detector.learn`."""
        self.step(x, targets, mass)

    @torch.no_grad()
    def step(self, x: Tensor, targets: Tensor, mass: Tensor) -> tuple[Tensor, Tensor | None]:
        """Score a batch, then learn it; see `Detector.step`."""
        self._check(x, targets, mass)
        trees = self.scan_forest if self.scanning else self.forest
        mass, folds = mass.float(), trees.folds
        if self.forest.ready:
            found = self.forest.step(self._chosen(x), targets, mass)
        else:
            views = self.views(x).flatten(1)
            if self.scanning:
                each = self._scan(views, targets, mass)
            else:
                each = self.scan_forest.block_posteriors(views)
                self.forest.learn(self._chosen(x), targets, mass)
            posterior = self._best_so_far(each)
            found = conflict(posterior, targets), posterior
        if trees.folds > folds:
            self._close()
        return found

    def _close(self) -> None:
        """Take over what was counted since the trees folded last, and end the scan in its turn."""
        for total, part in ((self.right, self.open_right), (self.seen, self.open_seen)):
            total += part
            part.zero_()
        if self.scanning and self.rows >= self.scan:
            agreement, view = self.agreement.topk(self.slots)
            self.chosen.copy_(torch.where(agreement >= self.margin * agreement[0], view, view[0]))
            self.scanning = False
        if self.forest.ready and self.scan_forest.n_features:
            # The old one has ten times the forest's memory.
            self.scan_forest = self._new_scan_forest()

    def _scan(self, views: Tensor, targets: Tensor, mass: Tensor) -> Tensor:
        buckets = bucket_of(targets, self.scan_forest.n_classes, self.n_classes)
        ready = self.scan_forest.ready  # it is asked before it learns
        each = self.scan_forest.block_step(views, buckets, mass)
        if ready:
            told = (each.argmax(2) == buckets[:, None]) * mass[:, None]
            self.open_right.T.index_add_(0, targets, told)
            self.open_seen.index_add_(0, targets, mass)
        self.rows += len(views)
        return each

    def _best_so_far(self, each: Tensor) -> Tensor:
        best = each.index_select(1, self.agreement.argmax().view(1)).squeeze(1)
        return of_classes(best, self.n_classes)

    def _chosen(self, x: Tensor) -> Tensor:
        return cell_means(x, self.cells.index_select(1, self.chosen)).flatten(1)

    def get_extra_state(self) -> dict[str, int]:
        """Return how far the scan is, and whether its trees are still there."""
        scan_forest = self.scan_forest.n_features > 0
        return {"rows": self.rows, "scanning": self.scanning, "scan_forest": scan_forest}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take back how far the scan is; buffers are loaded after this."""
        self.rows, self.scanning = state["rows"], bool(state["scanning"])
        if not state["scan_forest"]:
            self.scan_forest = self._new_scan_forest()
