"""Detectors: streaming scores of how likely a sample is bias-conflicting."""

from online_debias.detectors.best_views import BestViews
from online_debias.detectors.centroid import Centroid
from online_debias.detectors.detector import Detector
from online_debias.detectors.half_space_trees import HalfSpaceTrees
from online_debias.detectors.loda import Loda
from online_debias.detectors.mahalanobis import Mahalanobis
from online_debias.detectors.part_views import PartViews
from online_debias.detectors.posterior import conflict
from online_debias.detectors.voronoi_cells import VoronoiCells

__all__ = [
    "BestViews",
    "Centroid",
    "Detector",
    "HalfSpaceTrees",
    "Loda",
    "Mahalanobis",
    "PartViews",
    "VoronoiCells",
    "conflict",
]
