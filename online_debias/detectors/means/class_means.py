"""What detectors share that know every class by the mean of its features."""

from __future__ import annotations

import torch
from torch import Tensor

from online_debias.detectors.folding import Folding
from online_debias.detectors.posterior import conflict
from online_debias.functional.scores.class_distance import nearness

FINITE = 1e15  # beyond, squares and their sums might not be finite


class ClassMeans(Folding):
    """A running mean a class; rows are judged by how far each mean is.

    Means fade at every fold, so that they follow the network as it trains. A class of which
    nothing was learned is never the nearest, and its rows score 0. Sums are of deviations from the
    means of the last fold, which keeps float32 exact whatever the mean. A value that is missing,
    infinite or absurd is taken for the mean.

    Attributes:
        mean: `[C, D]`, zeros where nothing was learned.
        mass: `[C]`, what the rows behind a mean count for.

    Args:
        fold: rows a window.
        retention: what past windows count for after a fold, in [0, 1).

    Raises:
        ValueError: if a setting is out of range.
    """

    has_posterior = True
    mean: Tensor
    mass: Tensor
    open_sum: Tensor
    open_mass: Tensor

    def __init__(self, fold: int = 128, retention: float = 0.95) -> None:
        super().__init__(fold, retention)

    def setup(self, n_features: int, n_classes: int, device: torch.device | str, seed: int) -> None:
        """Make empty means; nothing here is random. See `Detector.setup`."""
        super().setup(n_features, n_classes, device, seed)
        for name in ("mean", "open_sum"):
            self.register_buffer(name, torch.zeros(n_classes, n_features, device=device))
        for name in ("mass", "open_mass"):
            self.register_buffer(name, torch.zeros(n_classes, device=device))

    @property
    def seen(self) -> Tensor:
        """`[C]` bool, the classes of which something was learned."""
        return self.mass > 0

    @property
    def centre(self) -> Tensor:
        """`[D]`, the mean over all rows."""
        return (self.mass / self.mass.sum().clamp_min(1e-30)) @ self.mean

    @torch.no_grad()
    def posterior(self, x: Tensor) -> Tensor:
        """Return p(class | features) `[B, C]`, highest for the nearest mean; uniform at first.

        Args:
            x: features `[B, D]`.

        Raises:
            ValueError: if `x` has another width.
        """
        self._check(x)
        with self._single():
            return self._nearness(self._whole(x.float()))

    def _judge(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        x = self._whole(x)
        posterior = self._nearness(x)
        score = self._conflict(x, posterior, targets)
        return torch.where(self.seen[targets], score, 0.0), posterior

    def _observe(self, x: Tensor, targets: Tensor, mass: Tensor) -> None:
        deviation = x - self.mean[targets]
        deviation = torch.where(deviation.abs() < FINITE, deviation, 0.0)
        classes = torch.arange(self.n_classes, device=x.device)
        share = (targets[:, None] == classes) * mass[:, None]
        self.open_mass += share.sum(0)
        self.open_sum.addmm_(share.T, deviation)
        self._spread(deviation, mass)

    def _close(self) -> None:
        total = self.retention * self.mass + self.open_mass
        shift = self.open_sum / total.clamp_min(1e-30)[:, None]
        self.mean += shift
        torch.threshold(total, 1e-20, 0.0, out=self.mass)  # faded away; subnormals would be slow
        self.open_sum.zero_()
        self.open_mass.zero_()
        self._shifted(shift)

    def _nearness(self, x: Tensor) -> Tensor:
        distance = self._distance(x).masked_fill(~self.seen, torch.inf)
        return nearness(self._compare(distance))

    def _whole(self, x: Tensor) -> Tensor:
        return torch.where(x.abs() < FINITE, x, self.centre)

    def _distance(self, x: Tensor) -> Tensor:
        """Distances `[B, C]` of finite rows to the means, also those not seen."""
        raise NotImplementedError

    def _compare(self, distance: Tensor) -> Tensor:
        """What of distances `[B, C]`, inf for classes not seen, tells the classes apart."""
        return distance

    def _conflict(self, x: Tensor, posterior: Tensor, targets: Tensor) -> Tensor:
        """Scores `[B]` of finite rows; any finite number for rows of classes not seen."""
        return conflict(posterior, targets)

    def _spread(self, deviation: Tensor, mass: Tensor) -> None:
        """Learn more than the means: finite deviations `[B, D]` from them, masses `[B]`."""

    def _shifted(self, shift: Tensor) -> None:
        """Take over what was learned, about means that have moved by `shift` `[C, D]`."""
