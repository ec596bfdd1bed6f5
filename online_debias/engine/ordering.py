"""Which callback runs first: said by the signals and by what is done to inputs, not by a list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from graphlib import CycleError, TopologicalSorter

from online_debias.engine.callback import INPUT_TURNS, Callback
from online_debias.memory.former_names import current_name

# For the message only: which shipped callback could provide a missing signal.
_PROVIDERS = {
    "conflict": "ShortcutScore",
    "bias_label": "ShortcutScore",
    "noise": "NoiseScore",
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
    """Sort callbacks: whoever provides a signal comes before its readers; ties go by name.

    Raises:
        ValueError: a signal has no provider, two providers, or the needs form a cycle.
    """
    named = sorted(callbacks, key=lambda callback: callback.name)
    provider = _providers(named)
    sorter: TopologicalSorter[int] = TopologicalSorter()
    for place, callback in enumerate(named):
        needed = [_provider_of(name, callback, provider) for name in _required(callback)]
        optional = map(current_name, callback.optional)
        needed += [provider[name] for name in optional if name in provider]
        sorter.add(place, *(named.index(other) for other in needed))
    try:
        sorter.prepare()
    except CycleError as error:
        names = ", ".join(repr(named[place].name) for place in sorted(set(error.args[1])))
        raise ValueError(
            f"Callbacks {names} require each other's signals in a cycle; take one requirement away."
        ) from None
    ordered: list[Callback] = []
    ready: list[int] = []
    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()])  # places are in the order of names
        first = ready.pop(0)
        ordered.append(named[first])
        sorter.done(first)
    return ordered


def input_order(callbacks: Sequence[Callback]) -> list[Callback]:
    """Sort callbacks for `on_batch`, where contributions do not commute.

    Rows are varied before copies of them are appended, and both before rows are mixed.

    Raises:
        ValueError: a callback's `input_turn` is none of these.
    """
    for callback in callbacks:
        if callback.input_turn not in INPUT_TURNS:
            raise ValueError(
                f"Callback {callback.name!r} has the input_turn {callback.input_turn!r}, expected "
                f"one of {', '.join(INPUT_TURNS)}."
            )
    return sorted(callbacks, key=lambda callback: INPUT_TURNS.index(callback.input_turn))


def _required(callback: Callback) -> list[str]:
    return [current_name(signal) for signal in callback.requires]


def _providers(callbacks: Sequence[Callback]) -> dict[str, Callback]:
    provider: dict[str, Callback] = {}
    for callback in callbacks:
        for signal in map(current_name, callback.provides):
            if signal in provider:
                raise ValueError(
                    f"Callbacks {provider[signal].name!r} and {callback.name!r} both provide the "
                    f"signal {signal!r}; give one of them another signal name."
                )
            provider[signal] = callback
    return provider


def _provider_of(signal: str, reader: Callback, provider: dict[str, Callback]) -> Callback:
    if signal not in provider:
        could = _PROVIDERS.get(signal, f"a callback with {signal!r} in its `provides`")
        raise ValueError(
            f"Callback {reader.name!r} requires the signal {signal!r}, which no callback "
            f"provides; add {could}."
        )
    return provider[signal]
