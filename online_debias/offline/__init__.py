"""Methods that train more than once: the baselines that one online run is compared with."""

from online_debias.offline.two_step import TwoStep

__all__ = ["TwoStep"]
