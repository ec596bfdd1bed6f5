"""Cosine distance to class centroids: the simplest detector, and the one to beat."""

from __future__ import annotations

import torch
from torch import Tensor

from online_debias.detectors.means.class_means import ClassMeans
from online_debias.functional.scores.class_distance import cosine_distance, cosine_distance_between

SLACK = 0.25  # of the mean distance between two centroids


class Centroid(ClassMeans):
    """Scores rows that point towards another class's centroid rather than their own's.

    The score is 1 - nearest / own cosine distance to the moving class centroids, after a quarter of
    the mean distance between two centroids was added to both: of two distances that are as nothing
    to that, neither is the nearer. A few operations, and as good as a forest where each bias value
    is one cluster.

    Args:
        fold: rows a window; the first windows are shorter.
        retention: what past windows count for after a fold, in [0, 1).

    Raises:
        ValueError: if a setting is out of range.

    Example:
        >>> detector = Centroid(fold=8)
        >>> detector.setup(n_features=2, n_classes=2, device="cpu", seed=0)
        >>> detector.learn(torch.eye(2), torch.tensor([0, 1]), torch.ones(2))
        >>> detector.score(torch.tensor([[1.0, 0.1], [1.0, 0.1]]), torch.tensor([0, 1]))
        tensor([0.0000, 0.7784])
    """

    between: Tensor

    def setup(self, n_features: int, n_classes: int, device: torch.device | str, seed: int) -> None:
        """Make empty centroids; nothing here is random. See `Detector.setup`."""
        super().setup(n_features, n_classes, device, seed)
        self.register_buffer("between", torch.zeros((), device=device))

    def _shifted(self, shift: Tensor) -> None:
        self.between.copy_(cosine_distance_between(self.mean, self.seen))

    def _compare(self, distance: Tensor) -> Tensor:
        return distance + SLACK * self.between

    def _distance(self, x: Tensor) -> Tensor:
        return cosine_distance(x, self.mean)
