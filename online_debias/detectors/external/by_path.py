"""Detectors of other libraries, named by import path and loaded when they are needed."""

from __future__ import annotations

import importlib
import inspect
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


def seeded(kind: type, arguments: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Return the arguments, with a `random_state` if the class takes one and none is given.

    Example:
        >>> from sklearn.svm import OneClassSVM
        >>> seeded(OneClassSVM, {"nu": 0.5}, seed=7)
        {'nu': 0.5}
    """
    if "random_state" in inspect.signature(kind).parameters:
        return {"random_state": seed % 2**32, **arguments}
    return dict(arguments)


def refused(owner: str, kind: type, arguments: Mapping[str, Any], error: Exception) -> ValueError:
    """Return the error that says that a class does not work with these arguments."""
    return ValueError(
        f"{owner}: {kind.__name__} does not take the arguments {dict(arguments)} ({error})."
    )


def check_detector(owner: str, path: str, kind: type, arguments: Mapping[str, Any]) -> None:
    """Raise ValueError unless the class is an anomaly detector that can score and takes these.

    Args:
        owner: who asks, named in errors.
        path: as the user named the class.
        kind: the class.
        arguments: for it.
    """
    from sklearn.base import OutlierMixin  # slow to import

    model = make(owner, kind, arguments)
    # A classifier has a decision_function too; detectors say how many anomalies they expect.
    detects = isinstance(model, OutlierMixin) or hasattr(model, "contamination")
    if not (detects and hasattr(model, "fit") and hasattr(model, "decision_function")):
        raise ValueError(
            f"{owner}: detector is {path!r} with the arguments {dict(arguments)}, expected an "
            "anomaly detector with fit and decision_function, as LocalOutlierFactor has with "
            "novelty=True."
        )
    if hasattr(model, "_parameter_constraints"):  # scikit-learn looks at values only when it fits
        try:
            model._validate_params()
        except ValueError as error:
            raise refused(owner, kind, arguments, error) from error
