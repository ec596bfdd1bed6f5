"""Several sides take turns in one process, so that a busy machine slows all of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

Turn = Mapping[str, float]


def take(sides: Mapping[str, Callable[[], float]], rounds: int) -> list[Turn]:
    """Return what each side took in each round; a side measures itself."""
    return [{name: side() for name, side in sides.items()} for _ in range(rounds)]


def per_step(took: list[Turn], steps: int, beside: Sequence[str]) -> list[list[str]]:
    """Return a row for each side, and print it: milliseconds a step, and ratios to others.

    Args:
        took: seconds.
        steps: in each of them.
        beside: sides to compare with.
    """
    rows = []
    for name in took[0]:
        each = f"{1e3 * median(took, name) / steps:.2f}"
        rows.append([name, each, *(f"{ratio(took, name, other):.3f}" for other in beside)])
        print(*rows[-1], flush=True)
    return rows


def median(took: list[Turn], name: str) -> float:
    """Return what a side took in the middle of the rounds."""
    return statistics.median(turn[name] for turn in took)


def ratio(took: list[Turn], name: str, other: str) -> float:
    """Return what a side took in that of another of the same round, the median of these."""
    return statistics.median(turn[name] / turn[other] for turn in took)
