"""Which callback runs first: from the signals they require and provide, never from a list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from online_debias.callback import Callback

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
    """Sort callbacks: a signal's provider, those who refine it, its readers; ties go by name.

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
        for signal in (*callback.requires, *callback.refines):
            if signal not in provider:
                could = _PROVIDERS.get(signal, f"a callback with {signal!r} in its `provides`")
                raise ValueError(
                    f"Callback {callback.name!r} requires the signal {signal!r}, which no callback "
                    f"provides; add {could}."
                )
    ordered: list[Callback] = []
    while waiting:
        ready = [c for c in waiting if _ready(c, provider, waiting)]
        if not ready:
            names = ", ".join(repr(callback.name) for callback in waiting)
            raise ValueError(
                f"Callbacks {names} require each other's signals in a cycle; take one requirement "
                "away."
            )
        ordered.append(ready[0])
        waiting.remove(ready[0])
    return ordered


def _ready(callback: Callback, provider: Mapping[str, Callback], waiting: list[Callback]) -> bool:
    read = set(callback.requires) - set(callback.refines)
    unfinished = {signal for other in waiting for signal in other.refines}
    needed = (provider[signal] for signal in (*callback.requires, *callback.refines))
    return not read & unfinished and not any(other in waiting for other in needed)
