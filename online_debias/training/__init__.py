"""The training loop of this library: trainer, optimizer, loader, evaluation.

May import: engine, data, functional, runtime, errors.
"""

from online_debias.training.trainer import Trainer

__all__ = ["Trainer"]
