"""Which samples are drawn next: a whole round at a time, from the sampling tables as they stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from online_debias.engine.run import Run
from online_debias.engine.weights import rates
from online_debias.runtime import seeds


class Indexed(Dataset[tuple[int, Any, Any]]):
    """Any map-style data set of `(input, target)`, as `(index, input, target)`.

    Example:
        >>> Indexed([("a", 0), ("b", 1)])[1]
        (1, 'b', 1)
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[int, Any, Any]:
        """Return the sample with its position."""
        inputs, target = self.dataset[index]
        return index, inputs, target


def systematic(rate: Tensor, generator: torch.Generator) -> Tensor:
    """Draw `N` positions, in random order, sample i `floor(rate_i)` or `ceil(rate_i)` times.

    Systematic resampling (Carpenter, Clifford, Fearnhead 1999): one offset, evenly spaced picks
    along the cumulated rates. Its expectation is that of drawing with replacement, its variance
    the least; equal rates give a permutation.

    Args:
        rate: `[N]` float64 on the CPU, mean 1.
        generator: a CPU generator.

    Example:
        >>> rate = torch.tensor([2.0, 0.0, 1.5, 0.5], dtype=torch.float64)
        >>> systematic(rate, torch.Generator().manual_seed(0)).bincount(minlength=4)[:2]
        tensor([2, 0])
    """
    n = len(rate)
    offset = torch.rand(1, generator=generator, dtype=torch.float64)
    picks = torch.arange(n, dtype=torch.float64) + offset
    drawn = torch.searchsorted(rate.cumsum(0), picks, right=True).clamp_max(n - 1)
    return drawn[torch.randperm(n, generator=generator)]


class RoundSampler(Sampler[int]):
    """Draws a round (one pass of the loader) at its start, so prefetching never crosses a change.

    The stream of indices is the same for any number of workers. The position that is saved is
    what was consumed, never what was prefetched. Ranks take every `world_size`-th index, equally
    many each: up to `world_size - 1` indices at the end of a round are left out.

    Args:
        run: whose `resample` tables are drawn from.
    """

    def __init__(self, run: Run) -> None:
        self.seed = run.seed
        self.round = 0
        self.consumed = 0  # rows of this round that were trained on, by all ranks
        self._run = run
        self._rate: Tensor | None = None  # [N] float64, None for equal rates
        self._drawn: int | None = None  # the latest round that was drawn here
        self._most = 0  # rows of the largest step

    def __len__(self) -> int:
        """Rows of a whole round, on this rank."""
        return self._run.n_samples // self._run.world_size

    def __iter__(self) -> Iterator[int]:
        """Draw the round and go through what is left of it."""
        return iter(self.indices().tolist())

    def indices(self) -> Tensor:
        """Draw the round; return what is left of it for this rank, int64 on the CPU.

        Raises:
            RuntimeError: it was drawn before, and not even a batch is left of it.
        """
        run = self._run
        whole = len(self) * run.world_size
        if self._drawn == self.round and whole - self.consumed < self._most:
            raise RuntimeError(
                f"Round {self.round} was drawn and trained on, but never closed; call "
                "engine.end_epoch() after each pass of the loader."
            )
        if self.consumed == 0:  # a round that is gone on with keeps the rate it began with
            self._draw_by(rates(run.tables) if run.tables else None)
        self._drawn = self.round
        stream = seeds.generator("cpu", self.seed, "round", self.round)
        if self._rate is None:
            order = torch.randperm(run.n_samples, generator=stream)
        else:
            order = systematic(self._rate.cpu(), stream)
        return order[self.consumed : whole][run.rank :: run.world_size]

    def rate_of(self, index: Tensor) -> Tensor:
        """`[B]` float32, how much oftener than uniform the samples are drawn in this round."""
        if self._rate is None:
            return torch.ones(len(index), device=index.device)
        return self._rate[index].float()

    def _draw_by(self, rate: Tensor | None) -> None:
        self._rate = rate
        self._run.max_rate = 1.0 if rate is None else float(rate.max())  # at a round's border

    def consume(self, rows: int) -> None:
        """Count rows of this round as trained on, by all ranks."""
        self.consumed += rows
        self._most = max(self._most, rows)

    def next_round(self) -> None:
        """Begin the next round."""
        self.round += 1
        self.consumed = 0

    def check_in_use(self) -> None:
        """Raise RuntimeError when callbacks resample but the loader does not ask this sampler."""
        if self._run.tables and self._drawn is None:
            names = ", ".join(sorted(self._run.tables))
            raise RuntimeError(
                f"Callback {names} resamples, but the loader draws by itself; give the DataLoader "
                "sampler=engine.sampler()."
            )

    def state_dict(self) -> dict[str, Any]:
        """Position, the rate of the round under way, and the tables for the next."""
        return {
            "seed": self.seed,
            "round": self.round,
            "consumed": self.consumed,
            "rate": self._rate,
            "tables": {name: table.clone() for name, table in self._run.tables.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.seed, self.round = state["seed"], state["round"]
        self.consumed, self._drawn = state["consumed"], None
        device = self._run.device
        self._draw_by(None if state["rate"] is None else state["rate"].to(device))
        self._run.tables = {name: table.to(device) for name, table in state["tables"].items()}
