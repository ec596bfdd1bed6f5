"""Two processes weigh and draw as one does."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from online_debias import compose, distributed
from online_debias.run import Run
from online_debias.sampling import Rounds

torch.set_num_threads(1)
N = 11
SHARDS = (slice(0, 4), slice(4, N))  # of different lengths
SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"combine": "geometric"},
    {"combine": "max", "clip": (0.5, 3.0)},
    {"normalize": "none"},
)


def factors() -> dict[str, Tensor]:
    source = torch.Generator().manual_seed(0)
    return {name: torch.rand(N, generator=source) * 4 + 0.1 for name in "ab"}


def drawn() -> list[int]:
    run = Run(N, 2, torch.device("cpu"), seed=0, record=lambda name, value: None)
    run.resample("a", None, factors()["a"])
    return list(Rounds(run))


def work(rank: int, port: int, folder: Path) -> None:
    """What each process does; its results go to a file."""
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    shard = {name: factor[SHARDS[rank]] for name, factor in factors().items()}
    results = {
        "rank": distributed.rank(),
        "world_size": distributed.world_size(),
        "sum": distributed.all_reduce(torch.tensor([1.0 + rank, 10.0])),
        "weights": [compose.weights(shard, **setting) for setting in SETTINGS],
        "drawn": drawn(),
    }
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The results of two processes."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(work, (port, folder), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_each_process_knows_its_place(ranks: list[dict[str, Any]]) -> None:
    assert [(result["rank"], result["world_size"]) for result in ranks] == [(0, 2), (1, 2)]


def test_sums_are_over_the_processes(ranks: list[dict[str, Any]]) -> None:
    assert [result["sum"].tolist() for result in ranks] == [[3.0, 20.0]] * 2


@pytest.mark.parametrize("number", range(len(SETTINGS)))
def test_weights_of_two_shards_are_those_of_the_whole_batch(
    ranks: list[dict[str, Any]], number: int
) -> None:
    whole = compose.weights(factors(), **SETTINGS[number])
    shards = [result["weights"][number] for result in ranks]
    torch.testing.assert_close(torch.cat(shards), whole, rtol=1e-6, atol=0)
    assert abs(shards[0].mean() - 1) > 0.01  # the mean is 1 over both, not in each


def test_two_processes_draw_the_round_of_one(ranks: list[dict[str, Any]]) -> None:
    woven = [ranks[i % 2]["drawn"][i // 2] for i in range(N)]
    assert woven == drawn()


def test_a_process_alone_is_the_whole_world() -> None:
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    value = torch.tensor([2.0])
    assert distributed.all_reduce(value).item() == 2.0
