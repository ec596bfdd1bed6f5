"""What a step and a checkpoint are asked: logits, losses, another run's state, untrained heads."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from online_debias.engine.callback import Callback
from online_debias.errors import ConfigError

EXPECTED_OF_CRITERION = "expected (logits, targets) -> a loss for each row"


def check_logits(logits: object, n_rows: int, n_classes: int) -> None:
    """Refuse what is no tensor of logits `[n_rows, n_classes]`.

    Raises:
        ConfigError: says what it is.
    """
    if not isinstance(logits, Tensor):
        raise ConfigError(
            f"The model returned {type(logits).__name__}, expected a tensor of logits; wrap it in "
            "a module that returns them alone."
        )
    if logits.shape != (n_rows, n_classes):
        raise ConfigError(
            f"The model returned logits of shape {tuple(logits.shape)}, expected "
            f"({n_rows}, {n_classes}): rows x classes; give its last layer an output a class."
        )


def check_losses(losses: object, n_rows: int) -> None:
    """Refuse what is no tensor of losses `[n_rows]`: a mean could not be weighted.

    Raises:
        ConfigError: says what it is.
    """
    if not isinstance(losses, Tensor) or losses.shape != (n_rows,):
        found = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
        raise ConfigError(
            f"criterion: of {n_rows} rows it makes {found}, {EXPECTED_OF_CRITERION}; "
            "PyTorch's need reduction='none'."
        )


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


def check_state(state: Mapping[str, Any], seed: int, callbacks: Sequence[Callback]) -> None:
    """Refuse the state of another run.

    Raises:
        ValueError: it had another seed or other callbacks; names them.
    """
    if (before := state["progress"]["seed"]) != seed:
        raise ValueError(
            f"The checkpoint is of a run with seed {before}, this one has {seed}; resume with the "
            "seed the run was started with."
        )
    saved, here = set(state["callbacks"]), {callback.name for callback in callbacks}
    if saved != here:
        raise ValueError(
            f"The checkpoint was written with callbacks {_listed(saved)}, this run has "
            f"{_listed(here)}; resume with the recipe the run was started with."
        )


def load_states(states: Mapping[str, Any], callbacks: Sequence[Callback]) -> None:
    """Give each callback its state, by its name.

    Raises:
        ValueError: one does not fit; names its callback.
    """
    for callback in callbacks:
        try:
            callback.load_state_dict(states[callback.name])
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"The checkpoint's state of callback {callback.name!r} does not fit; resume with "
                "the data and the recipe the run was started with."
            ) from error


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
