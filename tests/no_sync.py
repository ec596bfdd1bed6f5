"""A mode in which whatever waits for the device raises, on any machine."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITS = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "bincount",
    "repeat_interleave",
    "histc",
    "is_nonzero",
    "equal",
    "allclose",
}


class NoSync(TorchDispatchMode):
    """Refuses operations whose result, or whose shape, the host must wait for."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in WAITS:
            raise AssertionError(f"{name} waits for the device")
        if name in ("index", "index_put", "index_put_"):
            indices = [index for index in args[1] if index is not None]
            if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                raise AssertionError(f"{name} by a boolean mask waits for the device")
        return func(*args, **(kwargs or {}))
