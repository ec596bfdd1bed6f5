"""Callbacks change a run; each is one file, named after what it does."""

if __name__ == "callbacks":
    raise ImportError("Import them as online_debias.callbacks; this folder is only its source.")

from .abstain import Abstain
from .augment import Augment
from .bias_amplifier import BiasAmplifier
from .bias_probe import BiasProbe
from .cluster_weights import ClusterWeights
from .conflict_score import ConflictScore
from .confusion import Confusion
from .copies import Copies
from .cross_bias_mix import CrossBiasMix
from .end import EnD
from .gradient_reversal import GradientReversal
from .group_weights import GroupWeights
from .hex import HEX
from .independence import Independence
from .information import Information
from .learned_mixin import LearnedMixin
from .logit_correction import LogitCorrection
from .loss_score import LossScore
from .noise_filter import NoiseFilter
from .offline_clusters import OfflineClusters
from .offline_score import OfflineScore
from .online_clusters import OnlineClusters
from .oracle_groups import OracleGroups
from .part_score import PartScore
from .pseudo_labels import PseudoLabels
from .relative_difficulty import RelativeDifficulty
from .resample import Resample
from .reweight import Reweight
from .river_score import RiverScore
from .rubi import RUBi
from .spectral_decoupling import SpectralDecoupling
from .texture_score import TextureScore

__all__ = [
    "Abstain",
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
    "NoiseFilter",
    "OfflineClusters",
    "OfflineScore",
    "OnlineClusters",
    "OracleGroups",
    "PartScore",
    "PseudoLabels",
    "RelativeDifficulty",
    "Resample",
    "Reweight",
    "RiverScore",
    "RUBi",
    "SpectralDecoupling",
    "TextureScore",
]
