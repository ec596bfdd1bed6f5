"""Public path of generalised cross-entropy, as settings name it; it lives in losses."""

from online_debias.functional.losses.gce import GeneralizedCrossEntropy as GeneralizedCrossEntropy
from online_debias.functional.losses.gce import (
    generalized_cross_entropy as generalized_cross_entropy,
)
