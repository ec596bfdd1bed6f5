"""Which losses are far above the others."""

from __future__ import annotations

from torch import Tensor


def loss_filter(losses: Tensor, gamma: float) -> Tensor:
    """Return `[N]` bool, true where a loss is above the mean by more than gamma deviations.

    The filter of DDB's Recipe I (Ciranni et al., NeurIPS 2025); mean and standard deviation are
    those of all losses.

    Args:
        losses: `[N]`.
        gamma: number of standard deviations.

    Example:
        >>> import torch
        >>> loss_filter(torch.tensor([0.1, 0.2, 0.1, 4.0]), gamma=1.0)
        tensor([False, False, False,  True])
    """
    return losses > losses.mean() + gamma * losses.std(correction=0)
