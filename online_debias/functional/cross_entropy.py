"""Public path of the default criterion, as the settings of older runs name it; it is in losses."""

from online_debias.functional.losses.cross_entropy import cross_entropy as cross_entropy
