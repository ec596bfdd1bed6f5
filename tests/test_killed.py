"""A run that is killed, at whatever moment, resumes to the bits of one that was not."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from online_debias.engine import Batch, Monitor, Run
from online_debias.runtime import checkpoint
from online_debias.training.trainer import Trainer
from tests.conftest import make_images
from tests.test_trainer import state, trainer

EPOCHS, STEPS = 3, 18
KILLS = 20
# Imported once for all processes; optimizers and metrics import the first two when first used.
PRELOADED = ["torch._dynamo", "sklearn.metrics", "online_debias.training.trainer", __name__]
# Progress after each of the first checkpoints: one at the start, one every two steps, one an epoch.
SAVED = [(0, 0, False), (2, 0, True), (4, 0, True), (6, 0, True), (6, 1, False)]


def short_run(folder: Path | None, *monitors: Monitor) -> Trainer:
    """Three epochs of six steps, with a checkpoint every two steps."""
    return trainer(make_images(), folder, monitors=monitors, save_every=2, epochs=EPOCHS)


@pytest.fixture(scope="module")
def whole() -> dict[str, Tensor]:
    """The final state of an undisturbed run."""
    one = short_run(None)
    one.fit()
    return state(one)


def resumed(folder: Path) -> dict[str, Tensor]:
    """The final state of a run that goes on from what is in the folder, if anything is."""
    one = short_run(folder)
    if (folder / "last.pt").exists():
        one.load_state_dict(checkpoint.load(folder / "last.pt"))
    one.fit()
    return state(one)


def progress(folder: Path) -> tuple[int, int, bool] | None:
    """Step, epoch and whether the epoch is open in the checkpoint; None where there is none."""
    if not (folder / "last.pt").exists():
        return None
    saved = checkpoint.load(folder / "last.pt")["engine"]["progress"]
    return saved["step"], saved["epoch"], saved["open"]


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name].nan_to_num(-1), value.nan_to_num(-1)), name


class Tells(Monitor):
    """Tells the parent process of every step."""

    def __init__(self, parent: Connection) -> None:
        self.parent = parent

    def on_step_end(self, batch: Batch, bias: Tensor | None, run: Run) -> None:
        self.parent.send("step")


def train_and_tell(folder: Path, parent: Connection) -> None:
    one = short_run(folder, Tells(parent))
    parent.send("start")
    one.fit()
    signal.pause()  # until the parent's signal, if it is late


def train_and_die(folder: Path, name: str, nth: int, last_act: Callable[..., Any]) -> None:
    """Die in the nth call of a function of `os`, after a last act."""
    calls, function = itertools.count(1), getattr(os, name)

    def deadly(*arguments: Any) -> None:
        if next(calls) == nth:
            last_act(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        function(*arguments)

    setattr(os, name, deadly)
    short_run(folder).fit()


@contextmanager
def child(target: Callable[..., None], *arguments: Any) -> Iterator[Any]:
    """A process that is gone at the end, by SIGKILL."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=target, args=arguments, daemon=True)
    process.start()
    try:
        yield process
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
    finally:
        process.kill()
        process.join()
        process.close()


def killed(folder: Path, steps: int, delay: float) -> None:
    """Start a run in a process and kill it `delay` seconds after it took so many steps."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    with ours, child(train_and_tell, folder, theirs) as process:
        theirs.close()  # so that the death of the process ends our waiting
        for _ in range(steps + 1):
            ours.recv()
        time.sleep(delay)
        process.kill()


def test_runs_killed_at_twenty_moments_resume_to_the_same_bits(
    tmp_path: Path, whole: dict[str, Tensor]
) -> None:
    (tmp_path / "whole").mkdir()
    start = time.perf_counter()
    assert_equal(resumed(tmp_path / "whole"), whole)
    seconds = (time.perf_counter() - start) / STEPS
    stream = random.Random(0)
    found = []
    for kill in range(KILLS):
        folder = tmp_path / str(kill)
        folder.mkdir()
        moment = (kill + stream.random()) / KILLS * (STEPS + 1)  # in steps, from before the first
        killed(folder, int(moment), moment % 1 * seconds)
        found.append(progress(folder))
        assert_equal(resumed(folder), whole)
        assert progress(folder) == (STEPS, EPOCHS, False)
    steps = {saved[0] for saved in found if saved is not None}
    assert len(steps) > 5 and min(steps) <= 2 and max(steps) >= STEPS - 2, found
    assert sum(saved is not None and saved[2] for saved in found) > 5, "few died in mid-epoch"


def halve(file: int) -> None:
    os.ftruncate(file, os.fstat(file).st_size // 2)


def nothing(*paths: Path) -> None:
    """The new file is whole, but not yet in the place of the old one."""


@pytest.mark.parametrize("nth", [1, 2, 5])
@pytest.mark.parametrize(
    ("name", "last_act", "written"),
    [("fsync", halve, 0), ("replace", nothing, 0), ("replace", os.replace, 1)],
)
def test_a_kill_while_a_checkpoint_is_written_leaves_the_last_good_one(
    tmp_path: Path,
    whole: dict[str, Tensor],
    name: str,
    last_act: Callable[..., Any],
    written: int,
    nth: int,
) -> None:
    with child(train_and_die, tmp_path, name, nth, last_act):
        pass
    saved = nth - 1 + written
    assert progress(tmp_path) == (SAVED[saved - 1] if saved else None)
    temporary = tmp_path / ".last.pt.tmp"
    assert temporary.exists() is not bool(written)
    if name == "fsync":
        with pytest.raises(ValueError, match="is cut short"):
            checkpoint.load(temporary)
    assert_equal(resumed(tmp_path), whole)
    assert progress(tmp_path) == (STEPS, EPOCHS, False)
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]
