"""What callbacks may contribute to a batch: one value a row, once in a step."""

from __future__ import annotations

from collections.abc import Container

from torch import Tensor


def contributed(
    kind: str, name: str, value: Tensor, rows: int, taken: Container[str] = ()
) -> Tensor:
    """Return `value`, detached.

    Args:
        kind: what it is, for messages.
        name: of the contribution.
        value: `[rows, ...]`.
        rows: of the batch.
        taken: names that were given before in this step.

    Raises:
        ValueError: the name is taken, or there is not one value a row.

    Example:
        >>> import torch
        >>> contributed("signal", "conflict", torch.ones(2, requires_grad=True), rows=2)
        tensor([1., 1.])
    """
    if name in taken:
        raise ValueError(
            f"The {kind} {name!r} was given twice in one step; give one of the callbacks another "
            "name."
        )
    if value.ndim == 0 or len(value) != rows:
        raise ValueError(
            f"The {kind} {name!r} has shape {tuple(value.shape)}, expected one value for each of "
            f"the {rows} rows."
        )
    if value.shape[1:] == (1,):  # would broadcast to rows x rows
        raise ValueError(
            f"The {kind} {name!r} has shape {tuple(value.shape)}, expected ({rows},); take its "
            "last axis away with .squeeze(1)."
        )
    return value.detach()
