"""Whether the optimizer was given the callbacks' parameters, which a loop may forget unnoticed."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from online_debias.callback import Callback


@torch.no_grad()
def norms(callbacks: Iterable[Callback]) -> dict[str, list[Tensor]]:
    """Return the norms of each callback's parameters, by its name: they change with training."""
    return {callback.name: [p.norm() for p in callback.parameters()] for callback in callbacks}


def warn_of_untrained(callbacks: Iterable[Callback], before: Mapping[str, list[Tensor]]) -> None:
    """Warn of a callback whose parameters have gradients, and the norms that they had before.

    The host waits for the device.
    """
    for callback in callbacks:
        name, now = callback.name, norms([callback])[callback.name]
        asked = any(p.grad is not None and bool(p.grad.any()) for p in callback.parameters())
        if asked and all(map(torch.equal, now, before[name])):
            warnings.warn(
                f"Callback {name!r} has parameters that no step has changed; give the optimizer "
                "those of engine.parameters() too.",
                stacklevel=3,
            )
