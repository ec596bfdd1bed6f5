"""A detector's decision values on a scale from 0 to 1."""

from __future__ import annotations

import torch
from torch import Tensor


def decision_score(excess: Tensor) -> Tensor:
    """Return sigmoid(excess / median |excess|), in [0, 1]: 1/2 on the detector's own boundary.

    Detectors measure in units of their own. Here the unit is the distance of a typical row to the
    boundary, which a few rows far off do not stretch as they would a standard deviation. Where
    most rows lie on the boundary itself, it is the mean distance.

    Args:
        excess: `[n]`, how far beyond the boundary each row is; below 0 where it is normal.

    Example:
        >>> decision_score(torch.tensor([-1.0, -1.0, 0.0, 4.0]))
        tensor([0.2689, 0.2689, 0.5000, 0.9820])
    """
    distance = excess.abs()
    unit = distance.median()
    unit = torch.where(unit > 0, unit, distance.mean())
    return torch.sigmoid(excess / torch.where(unit > 0, unit, 1.0))
