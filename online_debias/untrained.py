"""Whether the optimizer was given the callbacks' parameters, which a loop may forget unnoticed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from online_debias.callback import Callback


@torch.no_grad()
def norms(callback: Callback) -> list[Tensor]:
    """Return the norms of a callback's parameters, which change with training."""
    return [p.norm() for p in callback.parameters()]


def warn_of_untrained(callbacks: Sequence[Callback], before: Sequence[list[Tensor]]) -> None:
    """Warn of a callback whose parameters have gradients, and the norms that they had before.

    The host waits for the device.
    """
    for callback, initial in zip(callbacks, before, strict=True):
        asked = any(p.grad is not None and bool(p.grad.any()) for p in callback.parameters())
        if asked and all(map(torch.equal, norms(callback), initial)):
            warnings.warn(
                f"Callback {callback.name!r} has parameters that no step has changed; give the "
                "optimizer those of engine.parameters() too.",
                stacklevel=3,
            )
