"""A file is complete or absent, and is never unpickled."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from online_debias.runtime import checkpoint


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    state = {"weights": torch.arange(3), "step": 7, "names": ["a", "b"], "best": None}
    checkpoint.save(tmp_path / "last.pt", state)
    loaded = checkpoint.load(tmp_path / "last.pt")
    assert torch.equal(loaded.pop("weights"), torch.arange(3))
    assert loaded == {"format": checkpoint.FORMAT, "step": 7, "names": ["a", "b"], "best": None}
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_file_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "last.pt"
    checkpoint.save(path, {"step": 1})
    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="Cannot write .*last.pt: No space .*; free some"):
        checkpoint.save(path, {"step": 2})
    monkeypatch.undo()
    assert checkpoint.load(path)["step"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.pt"]


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint .*last.pt"):
        checkpoint.load(tmp_path / "last.pt")


def test_a_pickled_object_is_not_run(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"format": 1, "engine": Runs()}, tmp_path / "last.pt")
    with pytest.raises(ValueError, match="holds pickled objects, which are not loaded"):
        checkpoint.load(tmp_path / "last.pt")
    assert not (tmp_path / "ran").exists()
