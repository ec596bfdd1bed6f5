"""Which callback runs first: from the signals they require and provide, never from a list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from online_debias.engine.callback import Callback

# What a callback may have to do with a signal, in the order in which it is done.
_TIES = ("provides", "withholds", "restates", "replaces", "refines", "requires")

# For the message only: which shipped callback could provide a missing signal.
_PROVIDERS = {
    "conflict": "ConflictScore",
    "bias_group": "ConflictScore",
    "bias_logits": "BiasProbe",
    "cluster": "OnlineClusters",
}


def unique_names(callbacks: Sequence[Callback]) -> None:
    """Raise ValueError when two callbacks share a name."""
    names = [callback.name for callback in callbacks]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"Two callbacks are called {name!r}; give one of them another name=.")


def none_is_oracle(callbacks: Sequence[Callback]) -> None:
    """Raise ValueError when a callback reads bias labels, for data that has none."""
    for callback in callbacks:
        if callback.uses_annotations:
            raise ValueError(
                f"Callback {callback.name!r} reads bias labels, but the data has none; use data "
                "with bias annotations or leave the callback out."
            )


def in_order(callbacks: Iterable[Callback]) -> list[Callback]:
    """Sort callbacks: a signal's provider, those who change it, its readers; ties go by name.

    It may be withheld, then restated where it is not and replaced where it is, then refined, and is
    read after that.

    Raises:
        ValueError: a signal has no provider, two providers, or the needs form a cycle.
    """
    waiting = sorted(callbacks, key=lambda callback: callback.name)
    provider: dict[str, Callback] = {}
    for callback in waiting:
        for signal in callback.provides:
            if signal in provider:
                raise ValueError(
                    f"Callbacks {provider[signal].name!r} and {callback.name!r} both provide the "
                    f"signal {signal!r}; give one of them another signal name."
                )
            provider[signal] = callback
    for callback in waiting:
        for signal in _turns(callback):
            if signal not in provider:
                could = _PROVIDERS.get(signal, f"a callback with {signal!r} in its `provides`")
                raise ValueError(
                    f"Callback {callback.name!r} requires the signal {signal!r}, which no callback "
                    f"provides; add {could}."
                )
    ordered: list[Callback] = []
    while waiting:
        ready = [callback for callback in waiting if _ready(callback, waiting)]
        if not ready:
            names = ", ".join(repr(callback.name) for callback in waiting)
            raise ValueError(
                f"Callbacks {names} require each other's signals in a cycle; take one requirement "
                "away."
            )
        ordered.append(ready[0])
        waiting.remove(ready[0])
    return ordered


def _ready(callback: Callback, waiting: list[Callback]) -> bool:
    of_others = {signal for tie in _TIES[1:] for signal in getattr(callback, tie)}
    return not of_others & set(callback.provides) and not any(
        _turn(other, signal) < turn
        for signal, turn in _turns(callback).items()
        for other in waiting
    )


def _turn(callback: Callback, signal: str) -> int:
    return _turns(callback).get(signal, len(_TIES))


def _turns(callback: Callback) -> dict[str, int]:
    """When it is its turn with each of its signals; once is enough, the earliest counts."""
    ties = [(signal, turn) for turn, tie in enumerate(_TIES) for signal in getattr(callback, tie)]
    return dict(reversed(ties))
