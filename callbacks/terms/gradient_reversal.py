"""Learning not to learn: what teaches a head the bias is taught to the model in reverse."""

from __future__ import annotations

import math

from torch import Tensor

from online_debias.functional.losses.gradient_reversal import reversed_cross_entropy
from online_debias.functional.weights.mass_mean import mass_mean

from .private_head import PrivateHead


class GradientReversal(PrivateHead):
    """Subtracts the cross-entropy of a head that reads the bias, and makes it unsure.

    Learning Not to Learn (Kim et al., CVPR 2019), with pseudo bias labels instead of true ones.
    The model's gradient is that of a gradient reversal layer (Ganin and Lempitsky, ICML 2015)
    before the head, times `weight`; the head's own is not scaled. The released code takes a step
    with .01 of the entropy, then one with .1 of the head's reversed gradient; here one step does
    both, and the defaults are the same (.1 x .1 = .01). Its heads are two convolutions on an early
    feature map, this one is linear.

    Signals: requires `bias_label` (argument `signal`).
    Records: `terms/gradient_reversal`, the weighted terms of the model;
    `terms/gradient_reversal_head`, the cross-entropy of the head.

    Args:
        weight: of the model's terms, relative to the criterion's 1. They have no lower bound: at
            large weights, often .5 already, fooling the head is worth more than classifying.
        entropy: of sum p log p, relative to the reversed cross-entropy's 1.
        signal: name of the bias label.
        tap: name of the features.
        name: unique in a run.

    Raises:
        ValueError: `weight` is not a positive number, or `entropy` is negative.

    Example:
        >>> GradientReversal(weight=0.05, entropy=0.0).requires
        ('bias_label',)
    """

    def __init__(
        self,
        weight: float = 0.1,
        entropy: float = 0.1,
        signal: str = "bias_label",
        tap: str = "bottleneck",
        name: str | None = None,
    ) -> None:
        super().__init__(weight, signal, tap, name)
        self.expect("entropy", entropy, 0 <= entropy < math.inf, "a finite number >= 0")
        self.entropy = entropy

    def removal(self, logits: Tensor, bias: Tensor, keep: Tensor) -> Tensor:
        """Return the mean of the reversed terms over the rows that count."""
        reverse = reversed_cross_entropy(logits, bias, self.entropy)
        return mass_mean(reverse, keep.to(logits.dtype))
