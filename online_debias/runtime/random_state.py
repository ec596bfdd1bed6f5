"""The global random streams of all ranks, to be saved with a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from online_debias.runtime import distributed


def states(device: torch.device) -> dict[str, Tensor]:
    """Return the ranks' random states, a row a rank, for the CPU and a GPU."""
    own = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        own["cuda"] = torch.cuda.get_rng_state(device)
    return {name: distributed.gather_rows(state[None].to(device)) for name, state in own.items()}


def restore(saved: Mapping[str, Tensor], device: torch.device) -> None:
    """Take back what `states` returned.

    Raises:
        ValueError: it is of another number of ranks.
    """
    rank, ranks = distributed.rank(), distributed.world_size()
    if len(saved["cpu"]) != ranks:
        raise ValueError(
            f"The checkpoint is of a run of {len(saved['cpu'])} ranks and there are {ranks} now; "
            "resume with as many."
        )
    # copies, since torch reads a state from the start of its storage
    torch.set_rng_state(saved["cpu"][rank].cpu().clone())
    if device.type == "cuda" and "cuda" in saved:
        torch.cuda.set_rng_state(saved["cuda"][rank].cpu().clone(), device)
