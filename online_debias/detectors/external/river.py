"""river's detectors: rows as they take them, and the scores of any.

river itself is not imported: models come from the caller.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from typing import Any

import torch
from torch import Tensor


def as_dicts(x: Tensor) -> list[dict[int, float]]:
    """Return rows `[B, D]` as river takes them, features numbered from 0."""
    return [dict(enumerate(row)) for row in x.tolist()]


def score_then_learn(
    model: Any, rows: list[dict[int, float]], learns: Iterable[bool] = repeat(True)
) -> Tensor:
    """Let a river anomaly detector score, then learn, each row in turn; `[B]` float64.

    Args:
        model: the detector.
        rows: as `as_dicts` returns them.
        learns: which rows it learns; all by default.
    """
    scores = []
    for row, learn in zip(rows, learns, strict=False):
        scores.append(model.score_one(row))
        if learn:
            model.learn_one(row)
    return torch.tensor(scores, dtype=torch.float64)
