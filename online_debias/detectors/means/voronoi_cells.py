"""Voronoi cells of the class means: which cell a row lies in, and how deep."""

from __future__ import annotations

from torch import Tensor

from online_debias.detectors.means.class_means import ClassMeans
from online_debias.functional.scores.class_distance import cell_depth, squared_distance


class VoronoiCells(ClassMeans):
    """Scores how deep in another class's Voronoi cell a row lies.

    The distance d to the boundary of the own class's cell, in units of the mean length of a class
    mean, is that of Nahon, Nguyen and Tartaglione, "Mining bias-target Alignment from Voronoi
    Cells" (ICCV 2023); the score is d / (1 + d), and 0 in the own cell. They train a model first,
    measure the rows it misclassifies and keep the epoch in which those are deepest. Here means move
    along with the one training run, and cells, not predictions, decide. The bias value of a row is
    the class in whose cell it lies.

    Args:
        fold: rows a window; the first windows are shorter.
        retention: what past windows count for after a fold, in [0, 1).

    Raises:
        ValueError: if a setting is out of range.

    Example:
        >>> import torch
        >>> detector = VoronoiCells(fold=8)
        >>> detector.setup(n_features=2, n_classes=2, device="cpu", seed=0)
        >>> detector.learn(torch.eye(2), torch.tensor([0, 1]), torch.ones(2))
        >>> detector.score(torch.eye(2), torch.tensor([0, 0]))
        tensor([0.0000, 0.4142])
    """

    def _distance(self, x: Tensor) -> Tensor:
        centre = self.centre
        return squared_distance(x - centre, self.mean - centre)

    def _conflict(self, x: Tensor, posterior: Tensor, targets: Tensor) -> Tensor:
        depth = cell_depth(x, self.mean, self.seen, targets).clamp_min(0)
        return 1 - 1 / (1 + depth)  # d / (1 + d), also for a d that overflowed
