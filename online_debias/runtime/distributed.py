"""Ranks: who trains together, and the rows of all of them; the identity when alone.

Collectives are called in the engine, in synchronised batch norm and around checkpoints only: at
fixed points, by every rank, in the same order.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from online_debias.errors import RankLostError

_LOST = re.compile(r"gloo|NCCL|Connection (closed|reset|refused)|Broken pipe|Socket", re.IGNORECASE)


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Return this process's rank; 0 when alone."""
    return dist.get_rank() if _joined() else 0


def world_size() -> int:
    """Return the number of processes that train together; 1 when alone."""
    return dist.get_world_size() if _joined() else 1


def gather_rows(value: Tensor) -> Tensor:
    """Return the rows of all ranks, `[B, ...]` -> `[W * B, ...]`, as one process would draw them.

    Row i of rank r becomes row i * W + r. Every rank must come with equally many rows. Backward
    sums what the ranks ask of a row: when each computes the same loss from all rows, and
    DistributedDataParallel then takes the mean of the ranks' gradients, the parameters' gradient
    is that of one process with all the rows.
    """
    if world_size() == 1:
        return value
    gathered: Tensor = _Gather.apply(value)  # type: ignore[no-untyped-call]
    return gathered


def barrier() -> None:
    """Wait for all ranks, so that what one of them wrote is there for the others."""
    if world_size() > 1:
        dist.barrier()


def of_rank(value: Tensor) -> Tensor:
    """Return this rank's rows of what `gather_rows` returned."""
    return value if world_size() == 1 else value[rank() :: world_size()]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        images = value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last)
        own = value.contiguous()
        parts = [torch.empty_like(own) for _ in range(world_size())]
        dist.all_gather(parts, own)
        rows = torch.stack(parts, 1).flatten(0, 1)
        return rows.contiguous(memory_format=torch.channels_last) if images else rows

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return of_rank(gradient)


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Around a training run: joins the other ranks if torchrun (or the like) started this process.

    Raises:
        RankLostError: another rank died, on the one rank that is the first to notice; the others
            leave with `SystemExit`, so that a user reads one message.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or _joined():
        yield
        return
    store, own, size = next(iter(rendezvous("env://")))
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=own, world_size=size)
    # torchrun ends the other ranks with SIGTERM when one died: they say so before they go.
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, RankLostError) and not _LOST.search(str(error)):
            raise
        before = signal.SIG_IGN  # or torchrun's SIGTERM may come before the message is out
        if not _first(store):
            raise SystemExit(1) from None
        raise RankLostError(
            "Another rank was lost, so training stopped; go on from the last checkpoint with "
            "--resume."
        ) from error
    finally:
        signal.signal(signal.SIGTERM, before)
        dist.destroy_process_group()


def _terminated(number: int, frame: Any) -> None:
    raise RankLostError("SIGTERM")


def _first(store: Any) -> bool:
    """Whether this rank is the first that noticed; a store that is gone cannot tell."""
    try:
        return bool(store.add("online_debias/lost", 1) == 1)
    except RuntimeError:
        return True
