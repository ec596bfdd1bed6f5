"""Errors that a user can mend are one sentence; everything else keeps its traceback."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

_INSTALLED = ("site-packages", "lib/python")  # code that is not the user's to mend


class ConfigError(ValueError):
    """A setting, a file or a combination of them cannot be used; the message is one sentence."""


class NonFiniteLossError(RuntimeError):
    """A loss, a weight factor or a loss term became NaN or infinite."""


class RankLostError(RuntimeError):
    """Another process of a run of several ranks is gone."""


@contextmanager
def as_config_error() -> Iterator[None]:
    """Turn what set-up code in the block refuses (ValueError, ImportError) into a ConfigError."""
    try:
        yield
    except (ValueError, ImportError) as error:
        raise ConfigError(str(error)) from error


def describe_error(error: BaseException) -> str:
    """Return the kind and the message of an error in a user's code, and its line there.

    Example:
        >>> describe_error(KeyError("mask"))
        "KeyError: 'mask'"
    """
    message = " ".join(str(error).split()).removesuffix(".")
    frames = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not str(frame.f_globals.get("__name__")).startswith("online_debias.")
        and not any(place in frame.f_code.co_filename for place in _INSTALLED)
    ]
    where = f" ({frames[-1][0]}, line {frames[-1][1]})" if frames else ""
    return f"{type(error).__name__}: {message}{where}"


def positive(**settings: float) -> None:
    """Raise ValueError for the first setting that is not above 0."""
    for name, value in settings.items():
        if value is None or not value > 0:  # YAML knows null
            raise ValueError(f"{name} is {value}, expected a number above 0.")


def expect(owner: object, name: str, value: object, valid: bool, expected: str) -> None:
    """Raise ValueError unless an argument is valid; the sentence names it and what was expected.

    Example:
        >>> expect(3, "share", 2, False, "a number between 0 and 1")
        Traceback (most recent call last):
        ValueError: int: share is 2, expected a number between 0 and 1.
    """
    if not valid:
        raise ValueError(f"{type(owner).__name__}: {name} is {value!r}, expected {expected}.")
