"""Features of a layer, read by hooks, and which layers are read by default.

May import: errors.
"""

from online_debias.taps.taps import Tap, Taps

__all__ = ["Tap", "Taps"]
