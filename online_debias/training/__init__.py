"""The training loop of this library: trainer, optimizer, loader, evaluation.

May import: engine, data, taps, functional, runtime, errors.
"""

from online_debias.training.settings import TrainingSettings as TrainingSettings
from online_debias.training.trainer import Trainer as Trainer
