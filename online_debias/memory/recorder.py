"""Scalars noted in a step are read at the next flush, in one copy: no step waits for the device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from online_debias.errors import NonFiniteLossError


@dataclass(frozen=True, slots=True)
class Scalar:
    """The mean of what was recorded under `name` since the last flush, up to `step`."""

    step: int
    epoch: int
    name: str
    value: float


class Recorder:
    """Collects 0-dim tensors and floats, and reads them in bulk.

    Example:
        >>> recorder = Recorder(torch.device("cpu"))
        >>> recorder.add(3, 0, "train/loss", torch.tensor(2.0))
        >>> recorder.flush()
        [Scalar(step=3, epoch=0, name='train/loss', value=2.0)]
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pending: list[tuple[int, int, str, Tensor | float]] = []

    def add(self, step: int, epoch: int, name: str, value: Tensor | float) -> None:
        """Note `value`; a tensor is kept as it is until the next flush."""
        self._pending.append((step, epoch, name, value))

    def flush(self) -> list[Scalar]:
        """Read what was noted: the mean of each name, in the order of first appearance.

        Raises:
            NonFiniteLossError: a value under `train/`, `weights/` or `terms/` is not finite;
                names the first step and the contributor.
        """
        pending, self._pending = self._pending, []
        values = self._read([value for *_, value in pending])
        collected: dict[str, list[float]] = {}
        last: dict[str, tuple[int, int]] = {}
        for (step, epoch, name, _), value in zip(pending, values, strict=True):
            if not math.isfinite(value):
                _refuse(step, name, value)
            collected.setdefault(name, []).append(value)
            last[name] = (step, epoch)
        return [
            Scalar(*last[name], name, sum(seen) / len(seen)) for name, seen in collected.items()
        ]

    @torch.no_grad()
    def _read(self, values: list[Tensor | float]) -> list[float]:
        kinds: dict[torch.dtype, list[Tensor]] = {}
        for value in values:
            if isinstance(value, Tensor):
                kinds.setdefault(value.dtype, []).append(value.to(self._device))
        # One copy to the host for each dtype, and mostly there is only one.
        read = {dtype: iter(torch.stack(same).tolist()) for dtype, same in kinds.items()}
        return [next(read[v.dtype]) if isinstance(v, Tensor) else v for v in values]


def _refuse(step: int, name: str, value: float) -> None:
    group, _, contributor = name.partition("/")
    source = {
        "train": "the model's output or the criterion; try a lower learning rate",
        "weights": "the composed weights; all factors are 0 or one is infinite"
        if contributor in ("ess", "max")
        else f"the weight factor of callback {contributor!r}",
        "terms": f"the loss term of callback {contributor!r}",
    }.get(group)
    if source is not None:
        raise NonFiniteLossError(f"{name} became {value} in step {step}: it comes from {source}.")
