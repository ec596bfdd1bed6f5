"""Monitors watch a run and change nothing of it. May import: runs and all below."""

from .detection import Detection as Detection
from .metrics_csv import MetricsCSV as MetricsCSV
from .progress import Progress as Progress
from .tensorboard import TensorBoard as TensorBoard
