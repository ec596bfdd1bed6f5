"""Linear discriminant analysis of a stream, and how likely a row is to be an exception to it."""

from __future__ import annotations

import torch
from torch import Tensor

from online_debias.detectors.mahalanobis import Mahalanobis
from online_debias.functional.conflict_share import (
    conflict_probability,
    label_likelihood,
    probability_score,
)

_TEMPERATURES = (1.0, 1.5, 2.0, 3.0, 4.5, 6.0)
_SHARE, _ROWS = 0.05, 500.0  # of conflicting rows, to begin with, and of how many rows that counts


class Discriminant(Mahalanobis):
    """Scores rows by the probability that they conflict with what their features tell.

    Features of a class are taken for a Gaussian, with one covariance for all classes, which follows
    the stream (Hayes and Kanan, "Lifelong Machine Learning with Deep Streaming Linear Discriminant
    Analysis", CVPR Workshops 2020). Real features have heavier tails, so that posteriors are surer
    than they are right. Therefore they are softened by a temperature, and two things are estimated
    from rows before these are learned: the share of conflicting rows, at each temperature, and the
    temperature at which labels are likeliest (`functional.conflict_share`). The score says how
    probable it is, under both, that a row conflicts (`probability_score`).

    Where a view errs for one row in ten and one in fifty conflicts, the score of most rows that
    disagree stays below 1/2, unlike that of detectors that compare classes alone. Of a view that
    tells the class of nearly every row, those are as good.

    Attributes:
        share: `[T]`, estimated share of conflicting rows at each temperature.
        tally: `[3, T]`, sums over past rows, which fade: how likely they conflict, their mass, and
            the logarithm of how likely their labels are.

    Args:
        fold, retention, shrinkage: see `Mahalanobis`.

    Raises:
        ValueError: if a setting is out of range or, in `setup`, there is one class only.

    Example:
        >>> detector = Discriminant(fold=64)
        >>> detector.setup(n_features=2, n_classes=2, device="cpu", seed=0)
        >>> y = torch.arange(2048) % 2
        >>> x = torch.randn(2048, 2, generator=torch.Generator().manual_seed(0)) + 6 * y[:, None]
        >>> for rows in torch.arange(2048).split(64):
        ...     detector.learn(x[rows], y[rows], torch.ones(64))
        >>> detector.score(torch.tensor([[6.0, 6.0]]), torch.tensor([0])).round()
        tensor([1.])
    """

    temperature: Tensor
    share: Tensor
    tally: Tensor
    open_tally: Tensor

    def setup(self, n_features: int, n_classes: int, device: torch.device | str, seed: int) -> None:
        """Make empty means, an empty covariance and empty tallies; see `Detector.setup`."""
        super().setup(n_features, n_classes, device, seed)
        if n_classes < 2:
            raise ValueError("Discriminant needs at least 2 classes; of one, nothing can conflict.")
        temperature = torch.tensor(_TEMPERATURES, device=device)
        self.register_buffer("temperature", temperature, persistent=False)
        self.register_buffer("share", torch.full_like(temperature, _SHARE))
        for name in ("tally", "open_tally"):
            self.register_buffer(name, torch.zeros(3, len(temperature), device=device))

    @property
    def likeliest(self) -> Tensor:
        """Number of the temperature at which labels are likeliest, `[1]`; at first 0."""
        return (self.tally[2] / self.tally[1].clamp_min(1e-12)).argmax().view(1)

    @property
    def conflicting(self) -> Tensor:
        """Estimated share of conflicting rows, 0-dim."""
        return self.share[self.likeliest].squeeze(0)

    def additive(self) -> dict[str, Tensor]:
        """Return the classes' open sums and masses, the pooled sum of products, and tallies."""
        return super().additive() | {"tally": self.open_tally}

    def _take(self, x: Tensor, targets: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
        whole = self._whole(x)
        each = self._softened(whole)
        posterior = self._at_likeliest(each)
        score = self._scored(whole, posterior, targets)
        if self.ready:  # judged by what was learned before
            self._count(each, targets, mass)
        super()._observe(x, targets, mass)
        return score, posterior

    def _observe(self, x: Tensor, targets: Tensor, mass: Tensor) -> None:
        self._take(x, targets, mass)  # the tallies are of judged rows

    def _nearness(self, x: Tensor) -> Tensor:
        return self._at_likeliest(self._softened(x))

    def _at_likeliest(self, each: Tensor) -> Tensor:
        return each.index_select(0, self.likeliest).squeeze(0)

    def _conflict(self, x: Tensor, posterior: Tensor, targets: Tensor) -> Tensor:
        own = posterior.gather(1, targets[:, None]).squeeze(1)
        return probability_score(conflict_probability(own, self.conflicting, self.n_classes))

    def _count(self, each: Tensor, targets: Tensor, mass: Tensor) -> None:
        own = each.gather(2, targets.expand(len(each), -1)[..., None]).squeeze(2)
        share, counts = self.share[:, None], mass * self.seen[targets]
        conflicts = conflict_probability(own, share, self.n_classes)
        likely = label_likelihood(own, share, self.n_classes).clamp_min(1e-30).log()
        self.open_tally += torch.stack([conflicts, torch.ones_like(own), likely]) @ counts

    def _close(self) -> None:
        super()._close()
        self.tally.mul_(self.retention).add_(self.open_tally)
        conflicts, mass = self.tally[0] + _SHARE * _ROWS, self.tally[1] + _ROWS
        self.share.copy_((conflicts / mass).clamp(1e-4, 0.5))

    def _softened(self, x: Tensor) -> Tensor:
        """Posteriors of finite rows at each temperature, `[T, B, C]`; uniform at first."""
        distance = self._distance(x).masked_fill(~self.seen, torch.inf)
        nearest = distance.amin(1, keepdim=True)
        farther = (distance - nearest).nan_to_num(nan=0.0, posinf=torch.inf)
        return (-farther / (2 * self.temperature[:, None, None])).softmax(2)
