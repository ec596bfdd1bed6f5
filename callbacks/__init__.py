"""Callbacks change a run; each is one file, named after what it does.

May import: runs and all below.
"""

if __name__ == "callbacks":
    raise ImportError("Import them as online_debias.callbacks; this folder is only its source.")

import warnings

from .inputs.augment import Augment
from .inputs.copies import Copies
from .inputs.cross_bias_mix import CrossBiasMix
from .logits.hex import HEX
from .logits.learned_mixin import LearnedMixin
from .logits.logit_correction import LogitCorrection
from .logits.rubi import RUBi
from .sampling.cluster_weights import ClusterWeights
from .sampling.group_weights import GroupWeights
from .sampling.relative_difficulty import RelativeDifficulty
from .sampling.resample import Resample
from .sampling.reweight import Reweight
from .scores.conflict_score import ConflictScore
from .scores.loss_score import LossScore
from .scores.offline_score import OfflineScore
from .scores.oracle_groups import OracleGroups
from .scores.pseudo_labels import PseudoLabels
from .scores.river_score import RiverScore
from .scores.shortcut_score import ShortcutScore
from .terms.confusion import Confusion
from .terms.end import EnD
from .terms.gradient_reversal import GradientReversal
from .terms.independence import Independence
from .terms.information import Information
from .terms.spectral_decoupling import SpectralDecoupling
from .verdict.noise_score import NoiseScore
from .views.bias_amplifier import BiasAmplifier
from .views.bias_probe import BiasProbe
from .views.offline_clusters import OfflineClusters
from .views.online_clusters import OnlineClusters

__all__ = [
    "Augment",
    "BiasAmplifier",
    "BiasProbe",
    "ClusterWeights",
    "ConflictScore",
    "Confusion",
    "Copies",
    "CrossBiasMix",
    "EnD",
    "GradientReversal",
    "GroupWeights",
    "HEX",
    "Independence",
    "Information",
    "LearnedMixin",
    "LogitCorrection",
    "LossScore",
    "NoiseScore",
    "OfflineClusters",
    "OfflineScore",
    "OnlineClusters",
    "OracleGroups",
    "PseudoLabels",
    "RelativeDifficulty",
    "Resample",
    "Reweight",
    "RiverScore",
    "RUBi",
    "ShortcutScore",
    "SpectralDecoupling",
]


def __getattr__(name: str) -> object:
    """Lead from former names to what took their place, for one release."""
    if name == "NoiseFilter":
        text = "online_debias.callbacks.NoiseFilter is called NoiseScore now; use that name."
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return NoiseScore
    if name in ("Abstain", "PartScore", "TextureScore"):
        raise AttributeError(
            f"online_debias.callbacks has no {name!r} any more: the verdict, texture and parts are "
            "views of ShortcutScore; use that in place of ConflictScore and the three."
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
