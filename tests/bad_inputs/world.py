"""The files that the commands find, and what of them is there before and after."""

from __future__ import annotations

import shlex
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from online_debias.cli.main import main
from tests.bad_inputs.case import RAW, TRAIN, Content


def idx(values: Tensor) -> bytes:
    header = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.to(torch.uint8).numpy().tobytes()


def make_world() -> None:
    """A class folder, MNIST's files, a finished run and one that is not."""
    for name in ("cat", "dog"):
        Path("photos", name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(f"photos/{name}/{number}.png")
    Path(RAW).mkdir(parents=True)
    for split, n in (("train", 30), ("t10k", 20)):
        Path(RAW, f"{split}-images-idx3-ubyte").write_bytes(idx(torch.zeros(n, 28, 28)))
        Path(RAW, f"{split}-labels-idx1-ubyte").write_bytes(idx(torch.arange(n) % 10))
    assert main(shlex.split(TRAIN.replace("out", "done"))) == 0
    shutil.copytree("done", "begun")
    for name in ("results.json", "model.safetensors"):
        Path("begun", name).unlink()


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name != ".lock"  # of a comparison, in whose folder it stays
    }


def prepare(files: Mapping[str, Content]) -> None:
    for name, content in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        elif isinstance(content, str):
            path.write_text(content)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content(path)
