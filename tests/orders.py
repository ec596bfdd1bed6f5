"""Other orders of callbacks than the engine's own, for tests that contributions commute."""

from __future__ import annotations

import random
from collections.abc import Iterable

from online_debias.engine import Callback


def shuffled(callbacks: Iterable[Callback], seed: int) -> list[Callback]:
    """An order in which providers come before readers, otherwise at random."""
    waiting, ordered = list(callbacks), list[Callback]()
    draw = random.Random(seed)
    while waiting:
        provided = {signal for other in waiting for signal in other.provides}
        ready = [c for c in waiting if not provided & {*c.requires, *c.optional} - {*c.provides}]
        ordered.append(draw.choice(ready))
        waiting.remove(ordered[-1])
    return ordered
