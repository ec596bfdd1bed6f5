"""IRENE: take the information on the bias out of the bottleneck."""

from __future__ import annotations

from torch import Tensor

from online_debias.functional.losses.information import normalized_mutual_information

from .private_head import PrivateHead


class Information(PrivateHead):
    """Adds the mutual information between the bias label and what a head reads of it.

    IRENE (Tartaglione, BMVC 2022), with pseudo bias labels instead of true ones. A linear head
    learns the bias value from the detached features, the model to lower the mutual information,
    normalised to [0, 1]. The released code minimises .5 cross-entropy + .2 information; at half
    the learning rate that is this callback's default, the ratio .4.

    Signals: requires `bias_label` (argument `signal`).
    Records: `terms/information`, the weighted information; `terms/information_head`, the
    cross-entropy of the head.

    Args:
        weight: of the information, relative to the criterion's 1.
        signal: name of the bias label.
        tap: name of the features.
        name: unique in a run.

    Raises:
        ValueError: `weight` is not a positive number.

    Example:
        >>> Information(weight=0.4).requires
        ('bias_label',)
    """

    def __init__(
        self,
        weight: float = 0.4,
        signal: str = "bias_label",
        tap: str = "bottleneck",
        name: str | None = None,
    ) -> None:
        super().__init__(weight, signal, tap, name)

    def removal(self, logits: Tensor, bias: Tensor, keep: Tensor) -> Tensor:
        """Return the information over the rows that count."""
        return normalized_mutual_information(logits, bias, keep)
