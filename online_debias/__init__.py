"""Debias an image classifier during one training run, without bias labels.

The names below are imported when they are first used, so that `--help` need not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from online_debias.engine import Batch as Batch
    from online_debias.engine import Callback as Callback
    from online_debias.engine import Engine as Engine
    from online_debias.engine import Event as Event
    from online_debias.engine import Indexed as Indexed
    from online_debias.engine import Monitor as Monitor
    from online_debias.engine import Run as Run
    from online_debias.runtime import checkpoint as checkpoint
    from online_debias.taps import Tap as Tap
    from online_debias.training import Trainer as Trainer
    from online_debias.training import TrainingSettings as TrainingSettings

_HOMES = {
    "Batch": "engine",
    "Callback": "engine",
    "Engine": "engine",
    "Event": "engine",
    "Indexed": "engine",
    "Monitor": "engine",
    "Run": "engine",
    "Tap": "taps",
    "Trainer": "training",
    "TrainingSettings": "training",
}
# Modules that own loops and the settings of older runs find here.
_MODULES = {"checkpoint": "runtime.checkpoint", "pipeline": "runs.pipeline"}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"online_debias.{_HOMES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"online_debias.{_MODULES[name]}")
    raise AttributeError(f"module 'online_debias' has no attribute {name!r}")
