"""Detectors: streaming scores of how likely a sample is bias-conflicting."""

from online_debias.detectors.detector import Detector
from online_debias.detectors.half_space_trees import HalfSpaceTrees
from online_debias.detectors.posterior import conflict

__all__ = ["Detector", "HalfSpaceTrees", "conflict"]
