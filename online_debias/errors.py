"""What a user can mend is told in one sentence; everything else keeps its traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class ConfigError(ValueError):
    """A setting, a file or a combination of them cannot be used; the message is one sentence."""


class NonFiniteLossError(RuntimeError):
    """A loss, a weight factor or a loss term became NaN or infinite."""


class RankLostError(RuntimeError):
    """Another process of a run of several ranks is gone."""


@contextmanager
def plainly() -> Iterator[None]:
    """Around set-up code: what it refuses (ValueError, TypeError, ...) is the user's."""
    try:
        yield
    except (ValueError, TypeError, RuntimeError, ImportError) as error:
        raise ConfigError(str(error)) from error


def positive(**settings: float) -> None:
    """Raise ValueError for the first setting that is not above 0."""
    for name, value in settings.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}, expected a number above 0.")
