"""How much of a row's loss under two models is the biased one's."""

from __future__ import annotations

from torch import Tensor


def loss_share(biased: Tensor, own: Tensor) -> Tensor:
    """Return biased / (biased + own) `[B]`, in [0, 1]; near 1 where only the biased loss is large.

    The weight of DDB's Recipe II (Ciranni et al., NeurIPS 2025), which is the relative difficulty
    of LfF for the losses of one step. It is 1/2 where both losses are 0.

    Args:
        biased: `[B]` losses >= 0 under the biased model.
        own: `[B]` losses >= 0 under the model that is trained.

    Example:
        >>> import torch
        >>> loss_share(torch.tensor([3.0, 0.1, 0.0]), torch.tensor([1.0, 0.1, 0.0]))
        tensor([0.7500, 0.5000, 0.5000])
    """
    tiny = 1e-12
    return (biased + tiny) / (biased + own + 2 * tiny)
