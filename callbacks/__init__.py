"""Callbacks change a run; each is one file, named after what it does."""

if __name__ == "callbacks":
    raise ImportError("Import them as online_debias.callbacks; this folder is only its source.")

from .conflict_score import ConflictScore
from .cross_bias_mix import CrossBiasMix
from .end import EnD
from .resample import Resample
from .reweight import Reweight

__all__ = ["ConflictScore", "CrossBiasMix", "EnD", "Resample", "Reweight"]
