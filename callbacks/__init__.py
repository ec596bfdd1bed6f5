"""Callbacks change a run; each is one file, named after what it does."""

if __name__ == "callbacks":
    raise ImportError("Import them as online_debias.callbacks; this folder is only its source.")

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
from .scores.part_score import PartScore
from .scores.pseudo_labels import PseudoLabels
from .scores.river_score import RiverScore
from .scores.texture_score import TextureScore
from .terms.confusion import Confusion
from .terms.end import EnD
from .terms.gradient_reversal import GradientReversal
from .terms.independence import Independence
from .terms.information import Information
from .terms.spectral_decoupling import SpectralDecoupling
from .verdict.abstain import Abstain
from .verdict.noise_filter import NoiseFilter
from .views.bias_amplifier import BiasAmplifier
from .views.bias_probe import BiasProbe
from .views.offline_clusters import OfflineClusters
from .views.online_clusters import OnlineClusters

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
