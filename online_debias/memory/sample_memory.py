"""A number for each training sample, kept from the steps in which the sample was seen."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from online_debias.functional.by_index import last_by_index, mean_by_index


class SampleMemory(nn.Module):
    """An exponential moving average a sample, NaN until the sample is seen.

    The first value is taken as it is; later ones as `momentum * old + (1 - momentum) * new`.

    Args:
        n_samples: length of the training set.
        momentum: 0 remembers the last value only, so it can be a label; else a sample's rows in a
            batch count with their mean.

    Example:
        >>> memory = SampleMemory(3, momentum=0.5)
        >>> keep = torch.tensor([True, True])
        >>> memory.update(torch.tensor([0, 2]), torch.tensor([1.0, 4.0]), keep)
        >>> memory.update(torch.tensor([2, 0]), torch.tensor([2.0, 9.0]), ~keep)
        >>> memory.values
        tensor([1., nan, 4.])
    """

    table: Tensor

    def __init__(self, n_samples: int, momentum: float = 0.0) -> None:
        super().__init__()
        self.momentum = momentum
        # One slot more: rows that are not to be remembered are written there, which takes no
        # boolean indexing and so no wait for the device.
        self.register_buffer("table", torch.full((n_samples + 1,), torch.nan))

    @property
    def values(self) -> Tensor:
        """`[N]`, what is remembered; NaN where a sample was not seen."""
        return self.table[:-1]

    def update(self, index: Tensor, value: Tensor, keep: Tensor) -> None:
        """Remember `value` `[B]` of the samples `index` `[B]` in the rows where `keep` is true."""
        value = value.to(self.table.dtype)
        slot = torch.where(keep, index, len(self.table) - 1)
        old = self.table[slot]
        if self.momentum == 0:
            new = last_by_index(slot, value)
        else:
            mean = mean_by_index(slot, value)
            new = torch.where(old.isnan(), mean, old.lerp(mean, 1 - self.momentum))
        self.table.index_copy_(0, slot, new)

    def read(self, index: Tensor) -> Tensor:
        """`[B]`, what is remembered of the samples `index`; NaN where one was not seen."""
        return self.table[index]
