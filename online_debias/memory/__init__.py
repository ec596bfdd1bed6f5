"""What a run remembers: of every sample, of its scalars, and whether there is a shortcut.

May import: functional, errors.
"""

from online_debias.memory.sample_memory import SampleMemory as SampleMemory
from online_debias.memory.samples import Samples as Samples
from online_debias.memory.shortcut import Shortcut as Shortcut
