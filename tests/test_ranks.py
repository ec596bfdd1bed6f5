"""Two ranks train as one process with the doubled batch: the recipe, and every callback.

The network computes in double precision, so that sums in another order stay far below what could
send a row to another leaf; callbacks get float32 features as always.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from online_debias.engine import Callback
from online_debias.runtime import checkpoint
from online_debias.training.settings import TrainingSettings
from online_debias.training.trainer import Trainer
from tests.conftest import make_files, make_images, make_model, make_recipe
from tests.contract import EXPORTED, companions, state

ROOT = Path(__file__).resolve().parent.parent
CASES: dict[str, Callable[[], list[Callback]]] = {
    "the online recipe": make_recipe,
    **{kind.__name__: lambda kind=kind: companions(kind()) for kind in EXPORTED},
}
BATCH, STOP = 48, 8


class Double(nn.Module):
    """The small network, in double precision."""

    def __init__(self) -> None:
        super().__init__()
        self.net = make_model().double()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(images.double())
        return logits


def trainer(case: str, batch_size: int) -> Trainer:
    return Trainer(
        Double(),
        make_images(),
        CASES[case](),
        settings=TrainingSettings(
            epochs=3,
            batch_size=batch_size,
            lr=3e-3,
            schedule="constant",
            taps={"shallow": "net.stage1"},
            log_every=10**6,
        ),
    )


def work(rank: int, port: int, folder: Path) -> None:
    """What each process does: every case, and the recipe once more with a break."""
    torch.set_num_threads(1)
    os.chdir(folder)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    for case in CASES:
        one = trainer(case, BATCH // 2)
        one.fit()
        torch.save(state(one), folder / f"{case}-{rank}.pt")
    first = trainer("the online recipe", BATCH // 2)
    first.run_folder = folder
    first.epochs = 1
    first.fit()
    for _, batch in zip(range(STOP - 5), first.loader, strict=False):
        first._step(*batch)
    first.save("last.pt")
    dist.barrier()
    second = trainer("the online recipe", BATCH // 2)
    second.load_state_dict(checkpoint.load(folder / "last.pt"))
    second.fit()
    torch.save(state(second), folder / f"resumed-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the two processes left their results."""
    folder = tmp_path_factory.mktemp("ranks")
    make_files(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(work, (port, folder), nprocs=2)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_train_as_one_process(
    case: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    alone = trainer(case, BATCH)
    alone.fit()
    expected = state(alone)
    ranks = [torch.load(folder / f"{case}-{rank}.pt", weights_only=True) for rank in range(2)]
    for name, value in ranks[0].items():
        assert torch.equal(value.nan_to_num(), ranks[1][name].nan_to_num()), name
    assert expected.keys() == ranks[0].keys()
    for name, value in expected.items():
        # the detector's masses are counts of rows and must not differ at all
        exact = not value.is_floating_point() or name.endswith(("open", "reference"))
        tolerance = 0.0 if exact else 1e-4
        torch.testing.assert_close(
            ranks[0][name], value, rtol=tolerance, atol=tolerance / 10, equal_nan=True,
            msg=lambda text, name=name: f"{name}: {text}",
        )  # fmt: skip


def test_ranks_resume_to_the_same_bits(folder: Path) -> None:
    for rank in range(2):
        whole = torch.load(folder / f"the online recipe-{rank}.pt", weights_only=True)
        resumed = torch.load(folder / f"resumed-{rank}.pt", weights_only=True)
        for name, value in whole.items():
            assert torch.equal(value.nan_to_num(), resumed[name].nan_to_num()), name


def test_a_checkpoint_of_two_ranks_is_refused_by_one(folder: Path) -> None:
    with pytest.raises(ValueError, match="of a run of 2 ranks and there are 1 now; resume with"):
        trainer("the online recipe", BATCH).load_state_dict(checkpoint.load(folder / "last.pt"))


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--standalone", "-m", "--", "online_debias", "train", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_rank_that_dies_stops_the_run_with_one_message_and_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dies.yaml").write_text(
        "callbacks:\n"
        "  - class_path: tests.own.Dies\n"
        f"    init_args: {{rank: {lost}, step: 9, once: died}}\n"
        "  - class_path: online_debias.callbacks.ConflictScore\n"
        "  - class_path: online_debias.callbacks.Resample\n"
    )
    data = ["--data", "tests.own.Shapes", "--batch_size", "20", "--epochs", "3"]
    settings = ["--config", "dies.yaml", "--save_every", "4", "--run", "a"]
    done = torchrun(*data, *settings)
    assert done.returncode != 0
    ours = [line for line in done.stderr.splitlines() if line.startswith("online-debias:")]
    assert len(ours) == 1 and "Another rank was lost" in ours[0] and "--resume" in ours[0], done
    kept = checkpoint.load(Path("a/last.pt"))["engine"]["progress"]
    place = {"step": 8, "epoch": 1, "open": True}
    assert kept == {**place, "seed": 0, "stop_reason": None}
    done = torchrun("--resume", "a")
    assert done.returncode == 0, done.stderr
    assert Path("a/results.json").is_file()
    assert "loss" in done.stderr and done.stdout.count("unbiased") == 1
