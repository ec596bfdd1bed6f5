"""Two processes gather, draw and normalise as one does."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from online_debias.engine import Batch, RoundSampler, Run
from online_debias.runtime import distributed
from online_debias.runtime.batch_norm import RanksBatchNorm, over_ranks

torch.set_num_threads(1)
N = 11


def drawn() -> list[int]:
    run = Run(N, 2, torch.device("cpu"), seed=0, record=lambda name, value: None)
    run.resample("a", None, torch.rand(N, generator=torch.Generator().manual_seed(0)) + 0.1)
    return list(RoundSampler(run))


def images() -> Tensor:
    return 3 + 2 * torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(1))


def normalised(norm: nn.Module, rows: slice) -> dict[str, Tensor]:
    """Outputs, gradients and running statistics of a batch norm on some rows of all images."""
    own = images()[rows].clone().requires_grad_()
    output = norm(own)
    whole = distributed.gather_rows(output)
    (whole * torch.arange(whole.numel()).view_as(whole).sin()).sum().backward()
    gradients = {"input": own.grad, "weight": norm.weight.grad, "bias": norm.bias.grad}
    return {"output": whole.detach(), **gradients, **dict(norm.named_buffers())}  # type: ignore[dict-item]


def norm() -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(4)
    nn.init.uniform_(made.weight, generator=torch.Generator().manual_seed(2))
    return made


def halves(rank: int) -> Tensor:
    """The output on a rank's rows in bfloat16."""
    ours = over_ranks(nn.Sequential(norm()), torch.device("cpu"))
    found: Tensor = ours(images()[rank::2].bfloat16())
    return found.detach()


def vectors(rows: slice) -> Tensor:
    """The output of a batch norm of vectors on some rows."""
    ours = over_ranks(nn.Sequential(nn.BatchNorm1d(4)), torch.device("cpu"))
    found: Tensor = ours(images()[rows].mean((2, 3)))
    return found.detach()


def uneven() -> str:
    rows = torch.arange(3)
    try:
        Batch(0, 0, rows, rows, rows, rows, rows).of_rank()
    except ValueError as error:
        return str(error)
    return ""


def work(rank: int, port: int, folder: Path) -> None:
    """What each process does; its results go to a file."""
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    own = torch.tensor([1.0, 2.0]).add(10 * rank).requires_grad_()
    gathered = distributed.gather_rows(own)
    (gathered * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    results = {
        "rank": distributed.rank(),
        "world_size": distributed.world_size(),
        "gathered": gathered.detach(),
        "of_rank": distributed.of_rank(gathered.detach()),
        "gradient": own.grad,
        "norm": normalised(
            over_ranks(nn.Sequential(norm()), torch.device("cpu"))[0], slice(rank, 6, 2)
        ),  # type: ignore[index]
        "half": halves(rank),
        "vectors": vectors(slice(rank, 6, 2)),
        "uneven": uneven(),
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


def test_rows_are_gathered_in_the_order_of_one_process(ranks: list[dict[str, Any]]) -> None:
    for rank, result in enumerate(ranks):
        assert result["gathered"].tolist() == [1.0, 11.0, 2.0, 12.0]
        assert result["of_rank"].tolist() == [1.0 + 10 * rank, 2.0 + 10 * rank]


def test_backward_sums_what_all_ranks_ask_of_a_row(ranks: list[dict[str, Any]]) -> None:
    assert [result["gradient"].tolist() for result in ranks] == [[2.0, 6.0], [4.0, 8.0]]


def test_batch_norm_over_ranks_is_that_of_one_process(ranks: list[dict[str, Any]]) -> None:
    whole = normalised(norm(), slice(None))
    for rank, result in enumerate(ranks):
        found = result["norm"]
        for name in ("output", "running_mean", "running_var", "num_batches_tracked"):
            torch.testing.assert_close(found[name], whole[name], msg=name)
        torch.testing.assert_close(found["input"] / 2, whole["input"][rank::2])
    for name in ("weight", "bias"):  # the mean over ranks, as DistributedDataParallel takes it
        mean = (ranks[0]["norm"][name] + ranks[1]["norm"][name]) / 2
        torch.testing.assert_close(mean, whole[name])


def test_batch_norm_over_ranks_takes_bfloat16_and_vectors(ranks: list[dict[str, Any]]) -> None:
    whole = norm()(images().bfloat16().float()).detach()
    flat = vectors(slice(None))
    for rank, result in enumerate(ranks):
        assert result["half"].dtype == torch.bfloat16
        torch.testing.assert_close(result["half"], whole[rank::2].bfloat16())
        torch.testing.assert_close(result["vectors"], flat[rank::2])


def test_batch_norm_alone_is_torchs() -> None:
    model = nn.Sequential(norm())
    assert over_ranks(model, torch.device("cpu")) is model and type(model[0]) is nn.BatchNorm2d
    ours = RanksBatchNorm(4)
    ours.load_state_dict(norm().state_dict())
    theirs = norm()
    assert torch.equal(ours(images()), theirs(images()))
    assert torch.equal(ours.running_var, theirs.running_var)  # type: ignore[arg-type]


def test_rows_that_cannot_be_shared_evenly_are_refused(ranks: list[dict[str, Any]]) -> None:
    assert "a batch of 3 rows, which 2 ranks cannot share evenly" in ranks[0]["uneven"]


def test_two_processes_draw_the_round_of_one(ranks: list[dict[str, Any]]) -> None:
    woven = [ranks[i % 2]["drawn"][i // 2] for i in range(N - N % 2)]
    assert woven == drawn()[: N - N % 2]
    assert [len(result["drawn"]) for result in ranks] == [5, 5]


def test_a_process_alone_is_the_whole_world() -> None:
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    value = torch.tensor([2.0])
    assert distributed.gather_rows(value) is value and distributed.of_rank(value) is value
