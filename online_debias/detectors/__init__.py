"""Detectors: streaming scores of how likely a sample is bias-conflicting.

May import: functional, runtime, errors.
"""

from online_debias.detectors.detector import Detector
from online_debias.detectors.loda import Loda
from online_debias.detectors.means.centroid import Centroid
from online_debias.detectors.means.mahalanobis import Mahalanobis
from online_debias.detectors.means.voronoi_cells import VoronoiCells
from online_debias.detectors.posterior import conflict
from online_debias.detectors.trees.half_space_trees import HalfSpaceTrees
from online_debias.detectors.trees.mass_trees import MassTrees
from online_debias.detectors.views.best_views import BestViews
from online_debias.detectors.views.part_views import PartViews

__all__ = [
    "BestViews",
    "Centroid",
    "Detector",
    "HalfSpaceTrees",
    "Loda",
    "Mahalanobis",
    "MassTrees",
    "PartViews",
    "VoronoiCells",
    "conflict",
]
