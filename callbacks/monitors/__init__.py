"""Monitors watch a run and change nothing of it."""

from .detection import Detection
from .metrics_csv import MetricsCSV
from .progress import Progress
from .tensorboard import TensorBoard

__all__ = ["Detection", "MetricsCSV", "Progress", "TensorBoard"]
