"""The whole fit, as callbacks see it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from online_debias.memory.former_names import current_name
from online_debias.memory.samples import Samples
from online_debias.memory.shortcut import Shortcut
from online_debias.runtime import distributed, seeds


class Run:
    """What is known of the whole fit, and the three things a callback may ask of it.

    Attributes:
        n_samples: length of the training set; `index` is always below it.
        n_classes: number of target classes.
        device: where batches and callbacks live.
        seed: the run's seed; callbacks draw from `generator`, never from the global state.
        epoch, step: how far training is, counted from 0.
        max_steps: planned number of steps, None when the loop does not tell.
        rank, world_size: this process among those that train together.
        n_values: how many values a signal of labels has; its provider says so in `setup`.
        tables: sampling factors `[N]` by proposer, on the device.
        max_rate: how much oftener than uniform the most drawn sample is drawn in this round.
        stop_reason: why a callback asked to stop, None while none did.
        shortcut: the verdict, whether there is a shortcut.
        samples: what is known of every training sample.

    Example:
        >>> run = Run(4, 2, torch.device("cpu"), seed=0, record=print)
        >>> run.resample("mine", torch.tensor([1]), torch.tensor([3.0]))  # three times as often
        >>> run.tables["mine"]
        tensor([1., 3., 1., 1.])
    """

    def __init__(
        self,
        n_samples: int,
        n_classes: int,
        device: torch.device,
        seed: int,
        record: Callable[[str, Tensor | float], None],
        max_steps: int | None = None,
        width: Callable[[str], int] | None = None,
    ) -> None:
        self.n_samples, self.n_classes, self.device, self.seed = n_samples, n_classes, device, seed
        self.epoch, self.step, self.max_steps = 0, 0, max_steps
        self.rank, self.world_size = distributed.rank(), distributed.world_size()
        self.tables: dict[str, Tensor] = {}
        self.max_rate = 1.0
        self.stop_reason: str | None = None
        self.n_values: dict[str, int] = {}
        self.shortcut = Shortcut(device)
        self.samples = Samples(n_samples, device, self.shortcut)
        self._record, self._width = record, width

    def generator(self, name: str) -> torch.Generator:
        """Return the random stream of consumer `name` for this step; resuming repeats it."""
        return seeds.generator(self.device, self.seed, name, self.step)

    def values_of(self, signal: str) -> int:
        """Return how many values a signal of labels has: the classes, if nobody said otherwise."""
        return self.n_values.get(current_name(signal), self.n_classes)

    def width(self, tap: str) -> int:
        """Return the width of a tap's features, for those who build a head on them in `setup`.

        Raises:
            ValueError: it cannot be told before the first forward pass; says how to give it.
        """
        if self._width is None:
            raise ValueError(f"The width of tap {tap!r} is not known outside an engine.")
        return self._width(tap)

    def resample(self, name: str, index: Tensor | None, factor: Tensor) -> None:
        """Propose how much oftener samples should be drawn, from the next round on.

        Args:
            name: the proposer; each has its own table and the tables multiply.
            index: `[K]` positions in the training set; None for all of them.
            factor: `[K]` factors >= 0, relative to each other; samples not named keep theirs (1).
        """
        if index is None:
            index = torch.arange(self.n_samples, device=self.device)
        if factor.shape != index.shape:
            raise ValueError(
                f"Sampling factors of {name!r} have shape {tuple(factor.shape)}, expected "
                f"{tuple(index.shape)}: one for each sample named."
            )
        table = self.tables.setdefault(name, torch.ones(self.n_samples, device=self.device))
        table.index_copy_(0, index, factor.detach().to(table.dtype))

    def record(self, name: str, value: Tensor | float) -> None:
        """Note a scalar under the tag `group/name`; it is read later, in bulk, never now."""
        self._record(name, value)

    def stop(self, reason: str) -> None:
        """Ask the loop to end after this epoch; the reason is shown to the user."""
        self.stop_reason = reason
