"""One river detector a class, each behind normalisers of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from online_debias.detectors.external.plain_state import decode, encode
from online_debias.detectors.external.river import as_dicts, score_then_learn
from online_debias.functional.scores.standardize import Moments, follow, standardize

RETENTION = 0.999  # what is known of a class's features counts for, one row of the class later


class RiverModels:
    """Scores rows, then learns them, class by class and in their order, on the CPU.

    river's half-space trees want features in [0, 1], and those of a network that trains drift: a
    feature is mapped by the normal CDF of its z-score among the recent rows of the class, those of
    the batch included. Scores that are not in [0, 1] are mapped in the same way, except that 1/2
    stands for two standard deviations above the class's mean.

    Args:
        models: one for each class.
        bounded: whether their scores are in [0, 1] as they are.
        allowed: where their classes may come from, see `plain_state.encode`.
    """

    def __init__(self, models: Sequence[Any], bounded: bool, allowed: Sequence[str]) -> None:
        self.models, self.bounded, self.allowed = list(models), bounded, allowed
        self.features: list[Moments | None] = [None] * len(models)
        self.scores: list[Moments | None] = [None] * len(models)

    def step(self, x: Tensor, targets: Tensor, plain: Tensor, learns: Tensor) -> Tensor:
        """Return the scores `[B]`, 0 in rows that are not `plain`.

        Args:
            x: `[B, D]`.
            targets: `[B]` int64.
            plain: `[B]` bool, rows to look at.
            learns: `[B]` bool, rows to learn after they were scored.
        """
        result = torch.zeros(len(x))
        for target, model in enumerate(self.models):
            rows = (plain & (targets == target)).nonzero().squeeze(1)
            if not len(rows):
                continue
            own = x[rows].double()
            self.features[target], z = _normalize(self.features[target], own)
            unit = torch.special.ndtr(z)
            score = score_then_learn(model, as_dicts(unit), learns[rows].tolist())
            if not self.bounded:
                self.scores[target], z = _normalize(self.scores[target], score[:, None])
                score = torch.special.ndtr(z.squeeze(1) - 2)
            result[rows] = score.float()
        return result

    def state(self) -> dict[str, Any]:
        """Return everything learned, as plain data."""
        return {
            "models": encode(self.models, self.allowed),
            "features": [moments and tuple(moments) for moments in self.features],
            "scores": [moments and tuple(moments) for moments in self.scores],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned.

        Raises:
            ValueError: it is of other detectors or classes.
        """
        models = decode(state["models"], self.allowed)
        if [type(model) for model in models] != [type(model) for model in self.models]:
            raise ValueError(
                f"The state is of {len(models)} other detectors than the {len(self.models)} "
                f"{type(self.models[0]).__name__} of this run; resume with the same recipe."
            )
        self.models = models
        self.features = [_moments(given) for given in state["features"]]
        self.scores = [_moments(given) for given in state["scores"]]


def _moments(given: tuple[Tensor, Tensor, Tensor] | None) -> Moments | None:
    return given and Moments(*(value.cpu() for value in given))


def _normalize(moments: Moments | None, x: Tensor) -> tuple[Moments, Tensor]:
    """Count in rows `[n, D]`; return the moments and the rows' z-scores."""
    if moments is None:
        moments = Moments(x[0], torch.zeros_like(x[0]), x.new_zeros(()))
    moments = follow(moments, x, x.new_ones(len(x)), RETENTION ** len(x))
    return moments, standardize(x, moments, eps=1e-12)
