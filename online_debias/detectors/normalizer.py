"""The normal-CDF normaliser: mean and standard deviation that follow a network as it trains."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class NormalCDF(nn.Module):
    """Maps every feature to [0, 1] by the normal CDF of its z-score; moves only when folded.

    The map is monotone, so features need not be mapped at all: thresholds are mapped back once a
    fold (`cuts`) and rows are compared as they are. Deviations are summed about the mean of the
    last fold, which keeps float32 sums accurate whatever the mean.

    Args:
        n_features: width of a row.
        retention: what past windows count for after a fold.
        device: where the buffers live.
    """

    mean: Tensor
    square: Tensor
    mass: Tensor
    open_sum: Tensor
    open_square: Tensor
    open_mass: Tensor

    def __init__(self, n_features: int, retention: float, device: torch.device | str) -> None:
        super().__init__()
        self.retention = retention
        for name in ("mean", "square", "open_sum", "open_square"):
            self.register_buffer(name, torch.zeros(n_features, device=device))
        for name in ("mass", "open_mass"):
            self.register_buffer(name, torch.zeros((), device=device))

    def observe(self, x: Tensor, mass: Tensor) -> None:
        """Add rows `[B, D]` of mass `[B]`; a value that is not finite counts as the mean."""
        deviation = (x - self.mean).nan_to_num(0.0, 0.0, 0.0)
        self.open_mass += mass.sum()
        self.open_sum.addmv_(deviation.T, mass)  # in place: autocast leaves it in float32
        self.open_square.addmv_(deviation.square_().T, mass)

    def fold(self) -> None:
        """Move mean and deviation to include what was observed, and start a new window."""
        total = (self.retention * self.mass + self.open_mass).clamp_min(1e-30)
        shift = self.open_sum / total
        square = self.retention * self.square + self.open_square - total * shift.square()
        self.mean += shift
        self.square.copy_(square.clamp_min(0))
        self.mass.copy_(total)
        for value in (self.open_mass, self.open_sum, self.open_square):
            value.zero_()

    def cuts(self, feature: Tensor, z: Tensor) -> Tensor:
        """Return the raw values at which `feature` (any shape, int32) has the z-scores `z`."""
        deviation = (self.square / self.mass.clamp_min(1e-30)).sqrt()
        index = feature.view(-1)
        cut = self.mean.index_select(0, index).view_as(z)
        return cut + z * deviation.index_select(0, index).view_as(z)
