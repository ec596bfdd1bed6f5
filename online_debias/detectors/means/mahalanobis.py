"""Mahalanobis distance to class means, with one covariance for all classes."""

from __future__ import annotations

import torch
from torch import Tensor

from online_debias.detectors.means.class_means import ClassMeans
from online_debias.errors import expect
from online_debias.functional.scores.class_distance import mahalanobis_distance, whitening

MARGIN = 9.0  # squared deviations


class Mahalanobis(ClassMeans):
    """Scores rows that are nearer to another class's mean than to their own's, in deviations.

    Distances are those of Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution
    Samples and Adversarial Attacks" (NeurIPS 2018): squared, under the covariance within classes,
    pooled over all of them. The own distance alone is a poor detector, since atypical aligned rows
    are far from everything. What counts is m, how much farther it is than the nearest one: the
    score is m / (m + 9), which is 1/2 for a row on one mean and three deviations from the other.
    In wide features that is needed, since their noise adds to all distances alike.

    The covariance is factorised at a fold only: in very wide features, folds should be rare.

    Attributes:
        scatter: `[D, D]`, sum of the products of deviations from the class means.
        whiten: `[D, D]`, makes the covariance within classes the identity.

    Args:
        fold: rows a window; the first windows are shorter.
        retention: what past windows count for after a fold, in [0, 1).
        shrinkage: how many rows a feature, all of them uncorrelated, the correlations start from;
            above 0.

    Raises:
        ValueError: if a setting is out of range.

    Example:
        >>> detector = Mahalanobis(fold=8)
        >>> detector.setup(n_features=2, n_classes=2, device="cpu", seed=0)
        >>> x = torch.tensor([[0.0, 9.0], [1.0, -9.0], [4.0, 9.0], [5.0, -9.0]])
        >>> y = torch.tensor([0, 0, 1, 1])
        >>> detector.learn(x, y, torch.ones(4))
        >>> detector.score(x, y), detector.score(x, 1 - y).gt(0.9)
        (tensor([0., 0., 0., 0.]), tensor([True, True, True, True]))
    """

    scatter: Tensor
    open_scatter: Tensor
    whiten: Tensor

    def __init__(self, fold: int = 512, retention: float = 0.85, shrinkage: float = 1.0) -> None:
        super().__init__(fold, retention)
        expect(self, "shrinkage", shrinkage, shrinkage > 0, "a number above 0")
        self.shrinkage = shrinkage

    def setup(self, n_features: int, n_classes: int, device: torch.device | str, seed: int) -> None:
        """Make empty means and an empty covariance; see `Detector.setup`."""
        super().setup(n_features, n_classes, device, seed)
        for name in ("scatter", "open_scatter", "whiten"):
            self.register_buffer(name, torch.zeros(n_features, n_features, device=device))

    def _spread(self, deviation: Tensor, mass: Tensor) -> None:
        self.open_scatter.addmm_((deviation * mass[:, None]).T, deviation)

    def _shifted(self, shift: Tensor) -> None:
        torch.add(self.open_scatter, self.scatter, alpha=self.retention, out=self.scatter)
        self.open_scatter.zero_()
        self.scatter.addmm_((shift * self.mass[:, None]).T, shift, alpha=-1)
        mass = self.mass.sum()
        share = self.mass / mass.clamp_min(1e-30)
        between = share @ (self.mean - self.centre).square()
        self.whiten.copy_(whitening(self.scatter, mass, between, self.shrinkage))

    def _compare(self, distance: Tensor) -> Tensor:
        return distance - distance.amin(1, keepdim=True) + MARGIN

    def _distance(self, x: Tensor) -> Tensor:
        centre = self.centre
        return mahalanobis_distance(x - centre, self.mean - centre, self.whiten)
