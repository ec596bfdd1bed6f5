"""Signals under their former names, which lead to the new ones, with a warning, for one release."""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor

_FORMER = {"bias_group": "bias_label"}


def current_name(signal: str) -> str:
    """Return what a signal is called now; warn of a former name.

    Example:
        >>> current_name("conflict")
        'conflict'
    """
    if signal not in _FORMER:
        return signal
    warnings.warn(
        f"The signal {signal!r} is called {_FORMER[signal]!r} now; use that name.",
        DeprecationWarning,
        stacklevel=3,
    )
    return _FORMER[signal]


class Signals(dict[str, Tensor]):
    """Signals by name, found by their former names too; one that is there is not rewritten."""

    def __missing__(self, name: str) -> Tensor:
        if (now := current_name(name)) == name:
            raise KeyError(name)
        return self[now]

    def __contains__(self, name: object) -> bool:
        """Whether a signal is there."""
        return super().__contains__(current_name(name) if isinstance(name, str) else name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a signal, or the default."""
        return super().get(current_name(name), default)

    def __setitem__(self, name: str, value: Tensor) -> None:
        """Add a signal.

        Raises:
            ValueError: it is there already.
        """
        if name in self:
            raise ValueError(
                f"The signal {name!r} is rewritten; publish what differs under another name."
            )
        super().__setitem__(name, value)
