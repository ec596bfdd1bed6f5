"""LODA for bias: histograms of random projections, one a class."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from online_debias.detectors.folding import Folding
from online_debias.detectors.normalizer import NormalCDF
from online_debias.detectors.posterior import conflict
from online_debias.detectors.trees.mass import add_mass
from online_debias.errors import expect
from online_debias.functional.scores.loda import (
    bin_posterior,
    bin_rareness,
    equal_bins,
    project,
    sparse_projections,
)
from online_debias.runtime.seeds import generator

FINITE = 1e15  # beyond, the normaliser's squares might not be finite


class Loda(Folding):
    """Histograms of sparse random projections that remember which classes fall into which bin.

    The ensemble of Pevny, "Loda: Lightweight on-line detector of anomalies" (Machine Learning,
    2016), conditioned on classes. Bins are as many equal parts of the normal CDF of a projection's
    z-score, which follows the network as it trains; the rows of the first window only set it. A
    projection that reads a missing, infinite or absurd value falls into the last bin.

    - `score="posterior"`: 1 - p(target) / max p, where p is the mean over projections of the share
      each class has in the row's bin, with classes weighed as equally common. High means: the
      features are another class's.
    - `score="density"`: LODA's own, of the row's class: 1 - the geometric mean over projections of
      the mass of the row's bin relative to the fullest bin. High means: few rows like this in the
      class.

    Attributes:
        open: masses of the open window, `[bin, projection, class]`.
        reference: masses that scores are read from, `[bin, projection, class]`.

    Args:
        n_projections: number of projections.
        bins: bins a projection.
        fold: rows a window; the first windows are shorter.
        retention: what past windows count for after a fold, in [0, 1).
        least_mass: mass a class needs to be weighed as if it were as common as others (posterior).
        score: what is scored, see above.
        prior: mass added to every class of a bin.

    Raises:
        ValueError: if a setting is out of range.

    Example:
        >>> loda = Loda(fold=64)
        >>> loda.setup(n_features=4, n_classes=2, device="cpu", seed=0)
        >>> y = torch.arange(256) % 2
        >>> x = torch.rand(256, 4) + y[:, None] * torch.tensor([2.0, -2.0, 2.0, 2.0])
        >>> for rows in torch.arange(256).split(32):
        ...     loda.learn(x[rows], y[rows], torch.ones(32))
        >>> loda.score(x[:2], y[:2]), loda.score(x[:2], 1 - y[:2]).gt(0.5)
        (tensor([0., 0.]), tensor([True, True]))
    """

    feature: Tensor
    weight: Tensor
    centre: Tensor
    deviation: Tensor
    open: Tensor
    reference: Tensor
    table: Tensor

    def __init__(
        self,
        n_projections: int = 100,
        bins: int = 16,
        fold: int = 128,
        retention: float = 0.97,
        least_mass: float = 8.0,
        score: Literal["posterior", "density"] = "posterior",
        prior: float = 1.0,
    ) -> None:
        super().__init__(fold, retention)
        expect(self, "n_projections", n_projections, n_projections >= 1, "at least 1")
        expect(self, "bins", bins, bins >= 2, "at least 2")
        expect(self, "least_mass", least_mass, least_mass > 0, "a number above 0")
        expect(self, "score", score, score in ("posterior", "density"), "'posterior' or 'density'")
        expect(self, "prior", prior, prior > 0, "a number above 0")
        self.n_projections, self.bins = n_projections, bins
        self.least_mass, self.prior = least_mass, prior
        self.has_posterior = score == "posterior"

    def setup(self, n_features: int, n_classes: int, device: torch.device | str, seed: int) -> None:
        """Draw the projections and make empty histograms; see `Detector.setup`."""
        super().setup(n_features, n_classes, device, seed)
        projections = self.n_projections
        drawn = sparse_projections(projections, n_features, generator("cpu", seed, "loda"))
        for name, value in zip(("feature", "weight"), drawn, strict=True):
            self.register_buffer(name, value.to(device))
        self.normalizer = NormalCDF(projections, self.retention, device)
        for name in ("centre", "deviation"):
            self.register_buffer(name, torch.zeros(projections, device=device))
        shape = (self.bins, projections, n_classes)
        for name in ("open", "reference"):
            self.register_buffer(name, torch.zeros(shape, device=device))
        nothing = 1 / n_classes if self.has_posterior else 0.0
        self.register_buffer("table", torch.full(shape, nothing, device=device))

    @property
    def ready(self) -> bool:
        """Whether a score can differ from 0: scale and masses are known."""
        return self.folds > 1

    @torch.no_grad()
    def posterior(self, x: Tensor) -> Tensor:
        """Return p(class | features) `[B, C]`, as if classes were equally common; uniform at first.

        Args:
            x: features `[B, D]`.

        Raises:
            ValueError: if `x` has another width, or with `score="density"`.
        """
        self._check(x)
        if not self.has_posterior:
            raise ValueError("score='density' has no posterior: use score='posterior'")
        return self._posterior(self._bin(self._read(x.float())))

    def _read(self, x: Tensor) -> Tensor:
        projection = project(x, self.feature, self.weight)
        return torch.where(projection.abs() < FINITE, projection, torch.nan)

    def _judge(self, projection: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        place = self._bin(projection)
        if self.has_posterior:
            posterior = self._posterior(place)
            return conflict(posterior, targets), posterior
        of_class = place * self.n_classes + targets[:, None]
        rareness = self.table.view(-1)[of_class].mean(1)
        return -torch.expm1(-rareness), None

    def _observe(self, projection: Tensor, targets: Tensor, mass: Tensor) -> None:
        self.normalizer.observe(projection, mass)
        if self.folds:  # before the first fold the scale means nothing
            add_mass(self.open, self._bin(projection), targets, mass)

    def _close(self) -> None:
        torch.add(self.open, self.reference, alpha=self.retention, out=self.reference)
        torch.threshold_(self.reference, 1e-20, 0.0)  # subnormal numbers would be slow
        self.open.zero_()
        self.normalizer.fold()
        zero = torch.zeros_like(self.centre)
        self.centre.copy_(self.normalizer.cuts(self._columns(), zero))
        self.deviation.copy_(self.normalizer.cuts(self._columns(), zero + 1) - self.centre)
        if self.has_posterior:
            self.table.copy_(bin_posterior(self.reference, self.least_mass, self.prior))
        else:
            self.table.copy_(bin_rareness(self.reference, self.prior))

    def _bin(self, projection: Tensor) -> Tensor:
        """Places `bin * K + projection` in the table, `[B, K]` int32."""
        place = equal_bins(projection, self.centre, self.deviation, self.bins)
        return place.mul_(self.n_projections).add_(self._columns())

    def _columns(self) -> Tensor:
        return torch.arange(self.n_projections, dtype=torch.int32, device=self.centre.device)

    def _posterior(self, place: Tensor) -> Tensor:
        return embedding_bag(place, self.table.flatten(0, 1), mode="mean")
