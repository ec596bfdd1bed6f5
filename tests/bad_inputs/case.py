"""A bad input, the command lines to start from, and ways to spoil files."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from PIL import Image

SHORT = "--epochs 1 --method plain --run out"
TRAIN = f"train --data tests.own.Shapes --batch_size 40 {SHORT}"
FOLDER = f"train --data ClassFolder --data.root photos --batch_size 4 {SHORT}"
TABLE = f"train --data CSVData --data.root photos --data.file t.csv --batch_size 4 {SHORT}"
MNIST = f"train --data BiasedMNIST --data.root mnist --data.n_train 30 --batch_size 4 {SHORT}"
IMPORTED = f"{TRAIN} --model Imported --model.path online_debias.models.SmallConvNet"
RAW = "mnist/MNIST/raw"


Content = str | bytes | None | Callable[[Path], object]


class Case(NamedTuple):
    """One bad input: a command line, what is said about it, and files made (or spoiled) before."""

    line: str
    says: str
    files: Mapping[str, Content] = {}
    status: int = 1


def mine(name: str) -> str:
    return f"tests.bad_inputs.own.{name}"


def calls(*names: str, **arguments: Any) -> str:
    """The option that names callbacks, the last one with arguments."""
    found: list[dict[str, Any]] = [{"class_path": name, "init_args": {}} for name in names]
    found[-1]["init_args"] = arguments
    return f"{TRAIN} --callbacks {shlex.quote(json.dumps(found))}"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def saved(value: object) -> Callable[[Path], object]:
    return lambda path: torch.save(value, path)


def settings(**given: Any) -> Callable[[Path], object]:
    """Change settings of a run afterwards."""
    return lambda path: path.write_text(
        yaml.safe_dump({**yaml.safe_load(path.read_text()), **given})
    )


def state(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Change what a checkpoint holds."""

    def write(path: Path) -> None:
        found = torch.load(path, weights_only=True)
        change(found)
        torch.save(found, path)

    return write


class Runs:
    """What a pickle could hide: it makes a folder when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.mkdir, (Path("ran"),)  # type: ignore[return-value]


def table(lines: str | None = None) -> dict[str, Content]:
    """A CSV file of all photos, with pieces of its text replaced."""
    splits = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2
    text = "path,target,bias,split\n" + "".join(
        f"{name}/{number}.png,{name},{'ab'[number % 2]},{split}\n"
        for name in ("cat", "dog")
        for number, split in enumerate(splits)
    )
    return {"photos/t.csv": text + (lines or "")}


def table_with(old: str, new: str) -> dict[str, Content]:
    text = table()["photos/t.csv"]
    assert isinstance(text, str) and old in text
    return {"photos/t.csv": text.replace(old, new)}


def scores(old: str = "", new: str = "", rows: int = 240) -> dict[str, Content]:
    text = "index,target,score,bias_label\n" + "".join(f"{i},{i % 3},.5,0\n" for i in range(rows))
    assert old in text
    return {"s.csv": text.replace(old, new, 1) if old else text}


def split_folders() -> dict[str, Content]:
    """Splits of which the last has a class that training does not have."""

    def make(path: Path) -> None:
        Image.new("RGB", (8, 8)).save(path)

    places = ("train/cat", "train/dog", "test/cat", "test/cow")
    return {f"split/{place}/{number}.png": make for place in places for number in range(3)}


def yaml_file(text: str | bytes) -> dict[str, Content]:
    return {"c.yaml": text}
