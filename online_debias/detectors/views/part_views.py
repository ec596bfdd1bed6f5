"""Half-space trees on the parts of a deep feature map: is one of them the shortcut?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from online_debias.detectors.class_buckets import FEW_BUCKETS, bucket_of
from online_debias.detectors.detector import Detector
from online_debias.detectors.means.mahalanobis import Mahalanobis
from online_debias.detectors.trees.block_trees import BlockTrees
from online_debias.detectors.views.grid import (
    cell_means,
    check_grids,
    grid_cells,
    map_width,
    named_place,
)
from online_debias.detectors.views.part_tallies import PartTallies
from online_debias.runtime.seeds import generator

_FOLDS = 3  # of what judges the chosen parts, before it scores: a window of rows
_WIDEST = 256  # features of it; more are projected at random, since a covariance is their square


class PartViews(Detector):
    """Looks for a part of the image that tells the class though it shows another thing.

    A bias in the shape of things, such as a digit above a garment, is seen in no shallow layer. In
    a deep one each cell of a grid tells the class of many images, by the bias or by what the class
    is, so how well it does so does not say which of them it sees. Two things do, of the rows in
    which a part contradicts the label and is as sure as it is where it is right:

    - if it shows another thing, the other parts tell the class of these rows as well as of any; if
      all show the same, which is ambiguous or wrongly labelled, they err together
      (`functional.shortcut.confirmation`);
    - a bias is any other class alike, while what is hard is taken for its neighbours
      (`functional.shortcut.evenness`).

    The product of both is a part's evidence. A place of the image lies in a cell of each grid, so
    more than one part sees what is there, while a single one may look even by chance: what counts
    is the mean of the best parts, as many as there are grids. `choose`, which `views.PartView`
    calls, takes the best ones if that is enough; before that every score is 0. The trees have done
    their work then and are given back. What the chosen parts show together is told by the nearest
    class mean (`Mahalanobis`), which finds more of the conflicting rows; it scores once it has seen
    a window and more. Of fewer than five classes evenness says nothing: no part is chosen.

    Attributes:
        parts: numbers of the chosen parts, the one with the most evidence first: cells of `grids`,
            row by row, in that order; none until some are chosen.

    Args:
        grids: sides of the grids that cells are taken of. The tapped map must come on a grid that
            all of them divide, the smallest such.
        threshold: least evidence, in (0, 1), for parts to be chosen.
        tells: least agreement of such a part with the label, in (0, 1), see
            `functional.shortcut.agreement`; less is no shortcut.
        least: rows that must contradict it.
        slots: most parts to choose.
        margin: evidence of a further part, relative to that of the best, that is good enough.
        n_trees: trees a part.
        height, retention: of all trees; see `HalfSpaceTrees`.
        fold: rows a window, of the trees and of the class means.

    Raises:
        ValueError: a setting is out of range or, in `setup`, the features come on another grid.

    Example:
        >>> parts = PartViews()
        >>> parts.setup(n_features=8 * 36, n_classes=10, device="cpu", seed=0)
        >>> maps, y = torch.rand(64, 8 * 36), torch.arange(64) % 10
        >>> parts.learn(maps, y, torch.ones(64))
        >>> parts.choose(), parts.score(maps, y).max()
        (False, tensor(0.))
    """

    cells: Tensor
    projection: Tensor | None
    has_posterior = True
    least_classes = 5  # of fewer, the neighbours of a hard class are nearly all there are

    def __init__(
        self,
        grids: Sequence[int] = (2, 3),
        threshold: float = 0.57,
        tells: float = 0.5,
        least: int = 100,
        slots: int = 4,
        margin: float = 0.75,
        n_trees: int = 8,
        height: int = 6,
        fold: int = 512,
        retention: float = 0.88,
    ) -> None:
        super().__init__()
        check_grids(grids, such_as=(2, 3))
        for name, count in (("least", least), ("slots", slots), ("n_trees", n_trees)):
            if count < 1:
                raise ValueError(f"{name} is {count}, but must be at least 1.")
        for name, share in (("threshold", threshold), ("tells", tells), ("margin", margin)):
            if not 0 < share < 1:
                raise ValueError(f"{name} is {share}, but must be between 0 and 1.")
        self.grids, self.side = tuple(grids), math.lcm(*grids)
        self.n_views = sum(grid**2 for grid in grids)
        self.threshold, self.tells, self.least = threshold, tells, least
        self.slots, self.margin = min(slots, self.n_views), margin
        self._settings = n_trees * self.n_views, self.n_views, height, fold, retention
        self.forest, self.part_detector = BlockTrees(*self._settings), Mahalanobis(fold)
        self.parts: list[int] = []
        self.register_buffer("projection", None, persistent=False)

    def setup(self, n_features: int, n_classes: int, device: torch.device | str, seed: int) -> None:
        """Begin to look; see `Detector.setup`.

        Raises:
            ValueError: the features are no map on the grid.
        """
        super().setup(n_features, n_classes, device, seed)
        self.n_buckets, self._seed = min(n_classes, FEW_BUCKETS), seed
        self._look_everywhere(device, seed)
        self.tallies = PartTallies(self.n_views, self.n_buckets, device)

    @property
    def chosen(self) -> bool:
        """Whether parts were chosen."""
        return len(self.parts) > 0

    @property
    def ready(self) -> bool:
        """Whether a score can differ from 0."""
        return self.chosen and self.part_detector.folds >= _FOLDS

    @property
    def evidence(self) -> Tensor:
        """How sure it is that a shortcut is a part of the image, 0-dim, in [0, 1].

        The mean of the best parts', one for each grid, over the rows since counting began.
        """
        return self.part_evidence.topk(len(self.grids)).values.mean()

    @property
    def part_evidence(self) -> Tensor:
        """How sure it is that a part shows another thing and is a shortcut, `[views]`, in [0, 1].

        0 of parts that tell too little of the class, or contradict it too seldom.
        """
        enough_classes = self.n_classes >= self.least_classes
        return self.tallies.evidence(self.tells, self.least) * enough_classes

    @property
    def place(self) -> str:
        """Where in the image the chosen parts are, such as "top left"."""
        return named_place(self.cells.mean(1).view(self.side, self.side))

    @torch.no_grad()
    def choose(self) -> bool:
        """Choose parts if the evidence is enough; the host waits for the answer.

        If there was enough to judge every part by, counting begins anew: the network has changed.
        """
        if self.chosen:
            return True
        if bool(self.evidence >= self.threshold):
            evidence, view = self.part_evidence.topk(self.slots)
            self._keep(view[evidence >= self.margin * evidence[0]].tolist())
        if self.chosen or bool(self.tallies.contradicted.min() >= self.least):
            self.tallies.clear()
        return self.chosen

    def score(self, x: Tensor, targets: Tensor) -> Tensor:
        """Return `[B]` float32 in [0, 1], high = bias-conflicting; see `Detector.score`."""
        self._check(x, targets)
        if not self.ready:
            return x.new_zeros(len(x))
        return self.part_detector.score(self._projected(x), targets)

    @torch.no_grad()
    def posterior(self, x: Tensor) -> Tensor:
        """Return p(class | the chosen parts), `[B, C]`; uniform before `ready`."""
        self._check(x)
        return self.part_detector.posterior(self._projected(x)) if self.ready else self._unknown(x)

    def learn(self, x: Tensor, targets: Tensor, mass: Tensor) -> None:
        """Add a batch to the trees, and count what the parts told of it; see `Detector.learn`."""
        self.step(x, targets, mass)

    @torch.no_grad()
    def step(self, x: Tensor, targets: Tensor, mass: Tensor) -> tuple[Tensor, Tensor | None]:
        """Score a batch, then learn it; see `Detector.step`."""
        self._check(x, targets, mass)
        if self.chosen:
            ready = self.ready  # it is asked before it learns
            judged = self.part_detector.step(self._projected(x), targets, mass.float())
            if ready:
                return judged
        else:
            self._look(x, targets, mass.float())
        return x.new_zeros(len(x)), self._unknown(x)

    def _look(self, x: Tensor, targets: Tensor, mass: Tensor) -> None:
        buckets = bucket_of(targets, self.n_buckets, self.n_classes)
        ready, folds = self.forest.ready, self.forest.folds  # they are asked before they learn
        each = self.forest.block_step(self._views(x), buckets, mass)
        if ready:
            self.tallies.add(each, buckets, mass)
        if self.forest.folds > folds:
            self.tallies.fold(self.forest.retention)

    def _views(self, x: Tensor) -> Tensor:
        return cell_means(x, self.cells).flatten(1)

    def _projected(self, x: Tensor) -> Tensor:
        views = self._views(x)
        return views if self.projection is None else views @ self.projection

    def _unknown(self, x: Tensor) -> Tensor:
        return x.new_full((len(x), self.n_classes), 1 / self.n_classes)

    def _look_everywhere(self, device: torch.device | str, seed: int) -> None:
        width = map_width(self.n_features, self.side, "parts")
        self.forest = BlockTrees(*self._settings)
        self.part_detector = Mahalanobis(self.part_detector.window)
        self.parts, self.projection = [], None
        self.forest.setup(self.n_views * width, self.n_buckets, device, seed)
        self.register_buffer("cells", grid_cells(self.grids, self.side, device), persistent=False)

    def _keep(self, parts: list[int]) -> None:
        self.parts = parts
        self.cells = self.cells[:, parts]
        width = len(parts) * map_width(self.n_features, self.side, "parts")
        self.forest = BlockTrees(*self._settings)  # has given its memory back
        device, narrow = self.cells.device, min(width, _WIDEST)
        self.part_detector.setup(narrow, self.n_classes, device, seed=0)  # nothing is random
        if narrow < width:
            stream = generator("cpu", self._seed, "part_views")
            projection = torch.randn(width, narrow, generator=stream) / math.sqrt(narrow)
            self.projection = projection.to(device)

    def get_extra_state(self) -> dict[str, list[int]]:
        """Return the chosen parts."""
        return {"parts": self.parts}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Keep the parts that were chosen; what learned is loaded after this."""
        if self.chosen:
            self._look_everywhere(self.cells.device, seed=0)
        if state["parts"]:
            self._keep(list(state["parts"]))
