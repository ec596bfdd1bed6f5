"""Who hears an event: callbacks that override its hook, then monitors."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from online_debias.engine.callback import Callback, Event, Monitor
from online_debias.engine.ordering import input_order
from online_debias.engine.run import Run
from online_debias.errors import ConfigError, NonFiniteLossError, RankLostError, describe_error

_WATCHED = (Event.FIT_START, Event.EPOCH_START, Event.EPOCH_END, Event.FIT_END)


class Dispatch:
    """Calls callbacks in the order given, and monitors after them.

    Records: `time/<callback>_ms`, host time of a callback's hooks.

    Args:
        callbacks: in the order of their signals.
        monitors: in any order; one that fails is taken out of this list. In checkpoints those of
            one class are numbered in it.
        run: the fit.

    Attributes:
        seconds_watching: time spent in monitors so far.
    """

    def __init__(
        self, callbacks: Sequence[Callback], monitors: Iterable[Monitor], run: Run
    ) -> None:
        self.monitors, self._run = list(monitors), run
        self._names = _unique_names(self.monitors)
        self.seconds_watching = 0.0
        self._listeners = {
            event: [callback for callback in callbacks if _overrides(callback, event)]
            for event in Event
        }
        self._listeners[Event.BATCH] = input_order(self._listeners[Event.BATCH])

    def named_monitors(self) -> list[tuple[str, Monitor]]:
        """Return the monitors that are still watching, each with a name of its own."""
        return [
            (self._names.get(id(monitor), type(monitor).__name__), monitor)
            for monitor in self.monitors
        ]

    def emit(self, event: Event, *args: Any) -> None:
        """Call the callbacks that override the event's hook; see `named` for what they raise."""
        for callback in self._listeners[event]:
            start = time.perf_counter()
            with named(callback, event.value, self._run.step):
                getattr(callback, event.value)(*args)
            self._run.record(f"time/{callback.name}_ms", 1e3 * (time.perf_counter() - start))
        if event in _WATCHED:
            self.watch(event.value, *args)

    def watch(self, hook: str, *args: Any) -> None:
        """Tell the monitors; one that fails is reported and dropped, training goes on."""
        start = time.perf_counter()
        for monitor in list(self.monitors):
            try:
                getattr(monitor, hook)(*args)
            except Exception as error:  # whatever a monitor does must not end a training run
                self.monitors.remove(monitor)
                warnings.warn(
                    f"Monitor {type(monitor).__name__} failed in {hook} at step {self._run.step} "
                    f"and is switched off: {type(error).__name__}: {error}",
                    RuntimeWarning,
                    stacklevel=2,
                )
        self.seconds_watching += time.perf_counter() - start


@contextmanager
def named(callback: Callback, hook: str, step: int) -> Iterator[None]:
    """Around a hook: an error names the callback; one of a user's own class becomes a sentence.

    Raises:
        ConfigError: a callback that is not of this library failed; says how and where.
    """
    try:
        yield
    except (ConfigError, NonFiniteLossError, RankLostError, OSError):
        raise  # sentences already
    except Exception as error:
        if not type(callback).__module__.startswith("online_debias."):
            raise ConfigError(
                f"Callback {callback.name!r} failed in {hook} at step {step}: "
                f"{describe_error(error)}; mend it or leave it out."
            ) from error
        if hasattr(error, "add_note"):  # from Python 3.11 on
            error.add_note(f"in callback {callback.name!r} at {hook}, step {step}")
        raise


def _unique_names(monitors: Sequence[Monitor]) -> dict[int, str]:
    """Name monitors by their classes; of one class the second is `Class 2`, and so on."""
    names: dict[int, str] = {}
    for monitor in monitors:
        kind = type(monitor).__name__
        earlier = sum(name.partition(" ")[0] == kind for name in names.values())
        names[id(monitor)] = f"{kind} {earlier + 1}" if earlier else kind
    return names


def _overrides(callback: Callback, event: Event) -> bool:
    own = getattr(type(callback), event.value, None)
    return own is not None and own is not getattr(Callback, event.value, None)
