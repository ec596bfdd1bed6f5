"""Debias an image classifier during one training run, without bias labels.

The names below are imported when they are first used, so that `--help` need not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from online_debias.batch import Batch as Batch
    from online_debias.callback import Callback as Callback
    from online_debias.callback import Event as Event
    from online_debias.callback import Monitor as Monitor
    from online_debias.engine import Engine as Engine
    from online_debias.run import Run as Run
    from online_debias.sampling import Indexed as Indexed
    from online_debias.taps import Tap as Tap
    from online_debias.trainer import Trainer as Trainer

_HOMES = {
    "Batch": "batch",
    "Callback": "callback",
    "Engine": "engine",
    "Event": "callback",
    "Indexed": "sampling",
    "Monitor": "callback",
    "Run": "run",
    "Tap": "taps",
    "Trainer": "trainer",
}

__all__ = [  # noqa: F822
    "Batch",
    "Callback",
    "Engine",
    "Event",
    "Indexed",
    "Monitor",
    "Run",
    "Tap",
    "Trainer",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"online_debias.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'online_debias' has no attribute {name!r}")
