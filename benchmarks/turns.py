"""Several sides take turns in one process, so that a busy machine slows all of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping

Turn = Mapping[str, float]


def take(sides: Mapping[str, Callable[[], float]], rounds: int) -> list[Turn]:
    """Return what each side took in each round; a side measures itself."""
    return [{name: side() for name, side in sides.items()} for _ in range(rounds)]


def median(took: list[Turn], name: str) -> float:
    """Return what a side took in the middle of the rounds."""
    return statistics.median(turn[name] for turn in took)


def ratio(took: list[Turn], name: str, other: str) -> float:
    """Return what a side took in that of another of the same round, the median of these."""
    return statistics.median(turn[name] / turn[other] for turn in took)
