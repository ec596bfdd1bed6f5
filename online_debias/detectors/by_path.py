"""Detectors of other libraries, named by import path and loaded when they are needed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any


def class_at(owner: str, path: str) -> type:
    """Return the class at an import path such as "sklearn.svm.OneClassSVM".

    Args:
        owner: who asks, named in errors.
        path: module and class, with a dot between them.

    Raises:
        ValueError: there is none; says why.

    Example:
        >>> class_at("Test", "collections.deque")
        <class 'collections.deque'>
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{owner}: detector is {path!r}, expected the import path of a class ({error})."
        ) from error
    if not isinstance(found, type):
        raise ValueError(f"{owner}: detector is {path!r}, expected the import path of a class.")
    return found


def make(owner: str, kind: type, arguments: Mapping[str, Any]) -> Any:
    """Return an instance.

    Raises:
        ValueError: the class does not take these arguments; says why.
    """
    try:
        return kind(**arguments)
    except Exception as error:  # whatever another library raises, the mend is the same
        raise refused(owner, kind, arguments, error) from error


def refused(owner: str, kind: type, arguments: Mapping[str, Any], error: Exception) -> ValueError:
    """Return the error that says that a class does not work with these arguments."""
    return ValueError(
        f"{owner}: {kind.__name__} does not take the arguments {dict(arguments)} ({error})."
    )
