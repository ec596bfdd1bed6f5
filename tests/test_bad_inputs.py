"""Each bad input is one sentence that names it, and nothing is left behind."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import cast

import pytest
import torch

from online_debias.cli.main import main
from tests.bad_inputs.callbacks import CALLBACKS
from tests.bad_inputs.case import TRAIN, calls, mine
from tests.bad_inputs.checkpoints import CHECKPOINTS
from tests.bad_inputs.commands import COMMANDS
from tests.bad_inputs.configs import CONFIGS
from tests.bad_inputs.data import DATA
from tests.bad_inputs.files import FILES
from tests.bad_inputs.world import contents, make_world, prepare

ROOT = Path(__file__).resolve().parent.parent
LONGEST, MOST_LINES = 600, 16  # characters of a line; lines, since a tree of files has some

CASES = {
    f"{group}: {name}": case
    for group, cases in {
        "files": FILES,
        "configs": CONFIGS,
        "data": DATA,
        "callbacks and models": CALLBACKS,
        "checkpoints": CHECKPOINTS,
        "arguments": COMMANDS,
    }.items()
    for name, case in cases.items()
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [str(ROOT), *sys.path])
        make_world()
    return folder


@pytest.fixture
def here(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    shutil.copytree(world, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    return folder


def refusal(line: str, status: int, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that is refused; check the form of what it says, and return it."""
    try:
        found = main(shlex.split(line))
    except SystemExit as error:  # argparse's own
        found = cast(int, error.code)
    said = capsys.readouterr().err.strip()
    assert found == status, said
    assert "Traceback" not in said
    assert len(said.splitlines()) <= MOST_LINES, said
    assert max(map(len, said.splitlines())) <= LONGEST, said
    if status == 2:
        assert re.fullmatch(r"(?s)usage: .*\nonline-debias[\w ]*: error: [^\n]+", said), said
        return said
    assert said.startswith("online-debias: ") and said.count("online-debias: ") == 1, said
    first, *_, last = said.splitlines() * 2
    assert last.endswith((".", ".)")) or (last != first and first.endswith((".", ":"))), said
    return said


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    name: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line, says, files, status = CASES[name]
    prepare(files)
    before = contents(here)
    said = refusal(line, status, capsys)
    assert re.search(says, said), said
    assert contents(here) == before


def test_there_are_many_of_each_group() -> None:
    assert len(CASES) >= 250
    assert all(len(group) >= 15 for group in (FILES, CONFIGS, DATA, CALLBACKS, CHECKPOINTS))


def test_a_loss_that_becomes_nan_keeps_the_checkpoint_before(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(f"{TRAIN} --model {mine('Returns')} --model.kind nan", 1, capsys)
    assert re.search("loss became nan in step 0: .* lower learning rate", said)
    left = {path.name.split(".out.")[0] for path in Path("out").iterdir()}
    assert left == {"config.yaml", "last.pt", "metrics.csv", "events"}


def test_a_callback_that_fails_after_an_epoch_keeps_what_was_trained(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = calls(mine("Fails"), hook="on_epoch_end") + " --save_every 2"
    said = refusal(line, 1, capsys)
    assert "'fails' failed in on_epoch_end at step 6: IndexError: behind the last" in said
    assert torch.load("out/last.pt", weights_only=True)["engine"]["progress"]["step"] == 6


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    def broken(*arguments: object) -> None:
        raise TypeError("ours")

    for place in (
        "online_debias.models.SmallConvNet.forward",
        "online_debias.runs.pipeline.TrainingJob.__init__",
        "online_debias.callbacks.Augment.on_batch",
    ):
        with monkeypatch.context() as patch, pytest.raises(TypeError, match="ours"):
            patch.setattr(place, broken)
            main(shlex.split(calls("Augment")))
        assert Path("out").exists() is place.endswith("on_batch")
