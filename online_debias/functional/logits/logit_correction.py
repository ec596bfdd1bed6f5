"""LC's maths: how often a class comes with what the biased view sees, as a shift of logits."""

from __future__ import annotations

import torch
from torch import Tensor


def certain(label: Tensor, n: int) -> Tensor:
    """Return the belief `[B, n]` that is 1 at `label` `[B]`; `one_hot` waits, to check the range.

    Example:
        >>> certain(torch.tensor([1]), 3)
        tensor([[0., 1., 0.]])
    """
    return (label[:, None] == torch.arange(n, device=label.device)).float()


def joint_mass(belief: Tensor, targets: Tensor, mass: Tensor) -> Tensor:
    """Return `[C, C]`, the mass of rows in each cell of bias value and class.

    Args:
        belief: `[B, C]`, the biased view's probability of each bias value.
        targets: `[B]` int64.
        mass: `[B]` >= 0, what each row counts.

    Example:
        >>> belief, targets = torch.tensor([[0.75, 0.25]]), torch.tensor([1])
        >>> joint_mass(belief, targets, mass=torch.tensor([2.0]))
        tensor([[0.0000, 1.5000],
                [0.0000, 0.5000]])
    """
    return (mass[:, None] * belief).T @ certain(targets, belief.shape[1]).to(belief.dtype)


def correction(belief: Tensor, joint: Tensor, smoothing: float) -> Tensor:
    """Return log p(class | what the biased view sees in the row), `[B, C]`.

    A model with these added to its logits learns what is left: the logits of p(class | row) where
    every class is as frequent as any other under each bias value.

    Args:
        belief: `[B, C]`, the biased view's probability of each bias value.
        joint: `[C, C]` mass in each cell of bias value and class, on any scale.
        smoothing: share of even mass that is mixed in, in (0, 1); bounds the correction.

    Example:
        >>> joint = torch.tensor([[0.45, 0.05], [0.05, 0.45]])
        >>> correction(torch.tensor([[1.0, 0.0]]), joint, smoothing=1e-6).exp()
        tensor([[0.9000, 0.1000]])
    """
    share = joint / joint.sum().clamp_min(1e-30)
    smooth = (1 - smoothing) * share + smoothing / share.numel()
    given_bias = smooth / smooth.sum(1, keepdim=True)  # [C, C], p(class | bias value)
    return (belief @ given_bias).log()
