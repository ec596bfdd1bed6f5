"""A checkpoint's state is given back to the callbacks that it is of, and to no others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from online_debias.callback import Callback


def check(state: Mapping[str, Any], seed: int, callbacks: Sequence[Callback]) -> None:
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


def load(states: Mapping[str, Any], callbacks: Sequence[Callback]) -> None:
    """Give each callback its state, by its name.

    Raises:
        ValueError: one does not fit; names its callback.
    """
    for callback in callbacks:
        try:
            callback.load_state_dict(states[callback.name])
        except RuntimeError as error:
            raise ValueError(
                f"The checkpoint's state of callback {callback.name!r} does not fit; resume with "
                "the data and the recipe the run was started with."
            ) from error


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"
