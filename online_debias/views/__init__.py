"""What can be seen in a step: a feature map's cells, an image's texture, its parts; and the judges.

May import: detectors, functional, runtime, errors.
"""

from online_debias.views.cell_view import CellView
from online_debias.views.part_view import PartView
from online_debias.views.shortcut_test import ShortcutTest
from online_debias.views.texture_view import TextureView
from online_debias.views.view import TapView, View

__all__ = ["CellView", "PartView", "ShortcutTest", "TapView", "TextureView", "View"]
