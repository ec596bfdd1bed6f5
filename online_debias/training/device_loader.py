"""Batches `(index, inputs, targets)`: gathered on the device, or from a DataLoader."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from online_debias.data.images import Images
from online_debias.engine import RoundSampler
from online_debias.functional.inputs.take_rows import take_rows


class DeviceLoader:
    """Gathers batches of a small image set where it lives: no worker, no copy.

    The last, incomplete batch of a round is left out, so that no batch norm sees a single row.

    Args:
        data: images on the training device; batches have their memory format.
        batch_size: rows a batch, on this rank.
        sampler: `engine.sampler()`.
    """

    def __init__(self, data: Images, batch_size: int, sampler: RoundSampler) -> None:
        self.data, self.batch_size, self.sampler = data, batch_size, sampler

    def __len__(self) -> int:
        """Batches of a whole round."""
        return len(self.sampler) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Draw a round and go through it."""
        device = self.data.images.device
        order = self.sampler.indices().to(device)
        for index in order.split(self.batch_size):
            if len(index) == self.batch_size:
                inputs = Images.to_float(take_rows(self.data.images, index))
                yield index, inputs, self.data.targets[index]
