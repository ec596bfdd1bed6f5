"""Who learns at which rate: one optimizer for the model and its callbacks, and its schedule."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR

from online_debias.engine import Callback

Schedule = Literal["one-cycle", "constant"]


def make_optimizer(
    model: nn.Module, callbacks: Iterable[Callback], lr: float, weight_decay: float
) -> AdamW:
    """Return Adam over the parameters of the model and, in groups of their own, of callbacks.

    Args:
        model: learns at the rate `lr`.
        callbacks: each learns at the rate `lr * lr_scale`, if it has parameters.
        lr: peak learning rate.
        weight_decay: decoupled, as in AdamW.

    Example:
        >>> make_optimizer(nn.Linear(1, 1), [], 0.1, 0.0).param_groups[0]["lr"]
        0.1
    """
    groups = [{"params": list(model.parameters()), "lr": lr}]
    for callback in callbacks:
        if own := list(callback.parameters()):
            groups.append({"params": own, "lr": lr * callback.lr_scale})
    return AdamW(groups, weight_decay=weight_decay, fused=True)


def make_schedule(schedule: Schedule, optimizer: AdamW, steps: int) -> LRScheduler:
    """Return what moves the learning rate, once a step.

    Args:
        schedule: "one-cycle" (cosine up in 30 % of the steps, then down) or "constant".
        optimizer: whose rates are the highest ones.
        steps: of the whole training.
    """
    if schedule == "constant":
        return ConstantLR(optimizer, factor=1.0)
    return OneCycleLR(optimizer, [group["lr"] for group in optimizer.param_groups], steps)
