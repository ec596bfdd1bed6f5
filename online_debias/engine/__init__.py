"""One training step and what may change it: callbacks, signals, weights, draws; no loop of its own.

May import: memory, taps, functional, runtime, errors.
"""

from online_debias.engine.batch import Batch as Batch
from online_debias.engine.callback import Callback as Callback
from online_debias.engine.callback import Event as Event
from online_debias.engine.callback import Monitor as Monitor
from online_debias.engine.engine import Criterion as Criterion
from online_debias.engine.engine import Engine as Engine
from online_debias.engine.run import Run as Run
from online_debias.engine.sampling import Indexed as Indexed
from online_debias.engine.sampling import RoundSampler as RoundSampler
from online_debias.memory import SampleMemory as SampleMemory
from online_debias.memory import Samples as Samples
from online_debias.memory import Shortcut as Shortcut
