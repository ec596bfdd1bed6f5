"""One training step and what may change it: callbacks, signals, weights, draws; no loop of its own.

May import: taps, functional, runtime, errors.
"""

from online_debias.engine.batch import Batch
from online_debias.engine.callback import Callback, Event, Monitor
from online_debias.engine.engine import Criterion, Engine
from online_debias.engine.run import Run
from online_debias.engine.sample_memory import SampleMemory
from online_debias.engine.sampling import Indexed, Rounds

__all__ = [
    "Batch",
    "Callback",
    "Criterion",
    "Engine",
    "Event",
    "Indexed",
    "Monitor",
    "Rounds",
    "Run",
    "SampleMemory",
]
