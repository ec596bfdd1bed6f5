"""A person's own images, from a class folder or a CSV file, and the command line for them."""

from __future__ import annotations

import io
import itertools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from online_debias.cli import data as command
from online_debias.cli.main import main
from online_debias.data import ClassFolder, CSVData, Images, Source
from online_debias.data.own.numbering import in_order, number_bias, tidy
from online_debias.data.own.splits import check_shares, hold_out
from online_debias.errors import ConfigError
from tests.conftest import make_images


def write(path: Path, grey: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), grey).save(path)


def tree(root: Path, n: int = 10, classes: Sequence[str] = ("cat", "dog")) -> Path:
    for name in classes:
        for number in range(n):
            write(root / name / f"{number}.png", number)
    return root


def splits(source: Source) -> dict[str, Images | None]:
    """All splits, by name."""
    return {"train": source.train(), "validation": source.validation(), "test": source.test()}


def equal(one: Images, other: Images) -> bool:
    same = one.bias is other.bias or (
        one.bias is not None and other.bias is not None and torch.equal(one.bias, other.bias)
    )
    pixels = torch.equal(one.images, other.images) and torch.equal(one.targets, other.targets)
    return pixels and same and one.paths == other.paths


# ---- what is held out ----


def test_held_out_splits_are_disjoint_and_stratified() -> None:
    targets = [0] * 100 + [1] * 10 + [2] * 3
    classes, shares = ("a", "b", "c"), {"validation": 0.1, "test": 0.2}
    found = hold_out(targets, classes, shares, seed=0)
    assert sorted(row for rows in found.values() for row in rows) == list(range(113))
    per_class = {
        name: [sum(targets[row] == target for row in rows) for target in range(3)]
        for name, rows in found.items()
    }
    assert per_class == {"train": [70, 7, 1], "validation": [10, 1, 1], "test": [20, 2, 1]}
    assert all(rows == sorted(rows) for rows in found.values())
    assert found == hold_out(targets, classes, shares, seed=0)
    assert found != hold_out(targets, classes, shares, seed=1)


def test_a_share_of_nothing_is_no_split_and_an_extreme_one_leaves_something() -> None:
    assert hold_out([0, 0, 1, 1], "ab", {"validation": 0}, seed=0) == {"train": [0, 1, 2, 3]}
    found = hold_out([0] * 10 + [1] * 10, "ab", {"validation": 0.01, "test": 0.98}, seed=0)
    assert [len(rows) for rows in found.values()] == [2, 2, 16]


def test_classes_too_small_to_divide_are_named() -> None:
    with pytest.raises(ValueError, match=r"Class 'b' has 2 images, too few to hold out val.* and"):
        hold_out([0, 0, 0, 1, 1], "ab", {"validation": 0.1, "test": 0.1}, seed=0)
    with pytest.raises(ValueError, match="Class 'b' has no images"):
        hold_out([0, 0, 0], "ab", {"test": 0.1}, seed=0)


@pytest.mark.parametrize(
    ("shares", "text"),
    [
        ({"validation": -0.1}, "validation=-0.1 is no share.*from 0 to below 1"),
        ({"validation": 1.0}, "validation=1.0 is no share"),
        ({"test": 0.0}, "test=0.0 is no share.*above 0 to below 1"),
        ({"validation": 0.5, "test": 0.5}, "validation=0.5 and test=0.5 leave nothing"),
        ({"test": float("nan")}, "test=nan is no share"),
    ],
)
def test_shares_out_of_range(shares: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        check_shares(shares)


# ---- numbers for names ----


def test_whole_numbers_are_written_alike() -> None:
    assert [tidy(x) for x in ("007", "7.0", "7.", "-1", "7.5", "x1", "")] == [
        "7", "7", "7", "-1", "7.5", "x1", "",
    ]  # fmt: skip
    assert in_order({"10", "9", "-1"}) == ("-1", "9", "10")
    assert in_order({"b", "10", "9"}) == ("10", "9", "b")


def test_bias_values_named_like_classes_have_their_numbers() -> None:
    # also where most samples conflict, and where a class is no value or a value no class
    assert number_bias(["b", "a", "a"], [0, 1, 1], ("a", "b"), range(3)) == [1, 0, 0]
    assert number_bias(["a", "a"], [0, 1], ("a", "b"), range(2)) == [0, 0]
    assert number_bias(["a", "x", "x"], [0, 0, 1], ("a", "b"), range(3)) == [0, 1, 1]


@pytest.mark.parametrize("seed", range(8))
def test_as_many_values_as_classes_are_matched_one_to_one(seed: int) -> None:
    stream = np.random.default_rng(seed)
    targets = [*range(4), *stream.integers(0, 4, 60)]
    values = [f"v{x}" for x in [*range(4), *stream.integers(0, 4, 60)]]
    numbers = number_bias(values, targets, "abcd", range(64))
    found = dict(zip(values, numbers, strict=True))
    assert sorted(found.values()) == [0, 1, 2, 3]
    best = max(  # the slow way: all matchings
        sum(order[int(v[1])] == t for v, t in zip(values, targets, strict=True))
        for order in itertools.permutations(range(4))
    )
    assert sum(n == t for n, t in zip(numbers, targets, strict=True)) == best


def test_only_training_samples_decide() -> None:
    values, targets = ["x", "y", "x", "x", "y", "y"], [0, 1, 1, 1, 0, 0]
    assert number_bias(values, targets, "ab", range(2)) == [0, 1, 0, 0, 1, 1]
    assert number_bias(values, targets, "ab", range(6)) == [1, 0, 1, 1, 0, 0]


def test_more_and_fewer_values_than_classes() -> None:
    # x is seen most often and takes a; y would too, z takes b; w is in no training sample
    values = ["x"] * 5 + ["y"] * 3 + ["z"] * 2 + ["w"]
    targets = [0, 0, 0, 0, 1, 0, 0, 1, 1, 1, 0]
    assert number_bias(values, targets, "ab", range(10)) == [0] * 5 + [2] * 3 + [1] * 2 + [3]
    assert number_bias(["x", "x", "x"], [0, 2, 2], "abc", range(3)) == [2, 2, 2]


# ---- class folder ----


def test_a_class_folder(tmp_path: Path) -> None:
    tree(tmp_path, 20, ("dog", "cat", "ant"))
    write(tmp_path / "cat" / "deep" / "er" / "x.PNG", 99)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "cat" / ".hidden.png").write_text("no image")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "README").write_text("no image")
    data = ClassFolder(tmp_path, size=4)
    found = splits(data)
    assert data.classes == ("ant", "cat", "dog")
    assert [len(x) for x in found.values() if x] == [43, 6, 12]
    seen = [path for x in found.values() if x for path in x.paths or ()]
    assert len(set(seen)) == 61
    assert "cat/deep/er/x.PNG" in seen
    for images in found.values():
        assert images is not None
        assert images.bias is None
        assert images.paths is not None
        for path, target, pixels in zip(
            images.paths, images.targets.tolist(), images.images, strict=True
        ):
            assert path.startswith(data.classes[target] + "/")
            grey = 99 if path.endswith("x.PNG") else int(Path(path).stem)
            assert pixels.unique().tolist() == [grey]


def test_the_same_arguments_give_the_same_images(tmp_path: Path) -> None:
    tree(tmp_path)
    one, other = ClassFolder(tmp_path, size=4), ClassFolder(tmp_path, size=4)
    assert equal(one.train(), other.train())
    assert equal(one.test(), other.test())
    assert one.test().paths != ClassFolder(tmp_path, size=4, seed=1).test().paths


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val"])
def test_split_folders(tmp_path: Path, name: str) -> None:
    for folder, n in (("train", 5), (name, 3), ("test", 2)):
        tree(tmp_path / folder, n)
    found = splits(ClassFolder(tmp_path, size=4))
    assert [len(x) for x in found.values() if x] == [10, 6, 4]
    validation = found["validation"]
    assert validation is not None
    assert validation.paths is not None
    assert validation.paths[0] == f"{name}/cat/0.png"


def test_a_split_without_folder_is_held_out_of_training(tmp_path: Path) -> None:
    for folder, n in (("train", 10), ("test", 3)):
        tree(tmp_path / folder, n)
    found = splits(ClassFolder(tmp_path, size=4, validation=0.2))
    assert [len(x) for x in found.values() if x] == [16, 4, 6]
    assert ClassFolder(tmp_path, size=4, validation=0).validation() is None


def test_train_may_be_a_class(tmp_path: Path) -> None:
    tree(tmp_path, classes=("train", "car"))
    assert ClassFolder(tmp_path).classes == ("car", "train")


def bad_tree(kind: str, root: Path) -> None:
    if kind == "one class":
        tree(root, classes=("cat",))
    elif kind == "loose":
        tree(root)
        write(root / "z.png")
        write(root / "y.png")
    elif kind == "flat":
        write(root / "y.png")
    elif kind == "no images":
        (root / "cat").mkdir()
    elif kind == "empty class":
        tree(root)
        (root / "empty").mkdir()
    elif kind == "few":
        tree(root, 2)
    elif kind == "odd classes":
        tree(root / "train")
        tree(root / "test", classes=("cat", "fox"))
    elif kind == "empty test":
        tree(root / "train")
        (root / "test").mkdir()
    elif kind == "two validations":
        for name in ("train", "val", "valid"):
            tree(root / name)
    elif kind == "beside splits":
        for name in ("train", "test", "more"):
            tree(root / name)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("one class", r"one class only, 'cat'; expected at least two folders:\nROOT/"),
        ("loose", r"holds 2 images beside the class folders \(such as y\.png\); move"),
        ("flat", r"holds 1 images beside the class folders \(such as y\.png\)"),
        ("no images", r"holds no images in class folders; expected:\nROOT/"),
        ("nothing", r"holds no images in class folders; expected:\nROOT/"),
        ("empty class", "empty' holds no images; add some, or remove it"),
        ("few", "Class 'cat' has 2 images, too few to hold out validation and test"),
        ("odd classes", "only one of them has dog, fox"),
        ("empty test", "test' holds no images in class folders"),
        ("two validations", "has val/ and valid/, both for one split"),
        ("beside splits", "has more/ beside the splits test, train; move it"),
    ],
)
def test_trees_that_are_refused(tmp_path: Path, kind: str, text: str) -> None:
    bad_tree(kind, tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=text):
        ClassFolder(tmp_path)


def test_a_missing_root_shows_the_expected_tree(tmp_path: Path) -> None:
    for source in (ClassFolder, CSVData):
        with pytest.raises(FileNotFoundError) as caught:
            source(tmp_path / "gone")
        assert str(caught.value).endswith(source.expected_tree)


@pytest.mark.parametrize("source", [ClassFolder, CSVData])
@pytest.mark.parametrize(
    ("arguments", "text"), [({"size": 0}, "size is 0"), ({"test": 1.5}, "test=1.5 is no share")]
)
def test_arguments_out_of_range(
    tmp_path: Path, source: Callable[..., Source], arguments: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        source(tmp_path, **arguments)


def test_damage_in_any_split_is_in_the_report_of_the_first(tmp_path: Path) -> None:
    for folder in ("train", "val", "test"):
        tree(tmp_path / folder, 3)
        (tmp_path / folder / "cat" / "1.png").write_bytes(b"")
    (tmp_path / "train" / "dog" / "x.png").mkdir()
    with pytest.raises(ValueError, match="4 of 19 images cannot be read") as caught:
        ClassFolder(tmp_path).train()
    for path in ("train/cat/1.png", "val/cat/1.png", "test/cat/1.png", "train/dog/x.png"):
        assert path in str(caught.value)


def test_damage_can_be_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree(tmp_path / "train", 4)
    tree(tmp_path / "test", 4)
    (tmp_path / "test" / "cat" / "1.png").write_bytes(b"")
    data = ClassFolder(tmp_path, size=4, validation=0, damaged="skip")
    assert (len(data.train()), len(data.test())) == (8, 7)
    assert "test/cat/1.png: is empty" in capsys.readouterr().err


def test_a_folder_that_may_not_be_listed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(tmp_path)
    listing = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "cat":
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ValueError, match="cat' cannot be read: Permission denied"):
        ClassFolder(tmp_path)


# ---- CSV ----


def table(root: Path, text: str, name: str = "metadata.csv") -> Path:
    (root / name).write_bytes(text.encode())
    for number in range(12):
        write(root / f"{number}.png", number)
    return root


def rows(*columns: str, header: str = "path,target", n: int = 12) -> str:
    """A line an image: its path, cat or dog in turn, and what `columns` say in turn."""
    lines = [header]
    for number in range(n):
        cells = [f"{number}.png", ("cat", "dog")[number % 2]]
        lines.append(",".join(cells + [column.split()[number % 2] for column in columns]))
    return "\n".join(lines) + "\n"


def test_a_table_without_bias_and_split(tmp_path: Path) -> None:
    data = CSVData(table(tmp_path, rows(), "mine.csv"), size=4)
    found = splits(data)
    assert data.classes == ("cat", "dog")
    assert [len(x) for x in found.values() if x] == [8, 2, 2]
    assert all(x is not None and x.bias is None for x in found.values())
    train = found["train"]
    assert train is not None
    assert train.paths is not None
    for path, target, pixels in zip(train.paths, train.targets, train.images, strict=True):
        assert pixels.unique().tolist() == [int(Path(path).stem)]
        assert int(target) == int(Path(path).stem) % 2
    assert equal(train, CSVData(tmp_path, size=4).train())


def test_columns_in_any_order_with_splits_and_words_of_bias(tmp_path: Path) -> None:
    header = "note,split,bias,target,path"
    lines = [header]
    for number in range(12):
        target, split = ("cat", "dog")[number % 2], ("train", "valid", "TEST")[number // 4]
        place = ("sofa", "lawn")[(number % 2) ^ (number in (3, 8, 9))]
        lines.append(f"x,{split},{place},{target},{number}.png")
    found = splits(CSVData(table(tmp_path, "\n".join(lines)), size=4))
    conflicting = [
        x.conflicting.tolist() for x in found.values() if x and x.conflicting is not None
    ]
    assert conflicting == [
        [False, False, False, True],
        [False, False, False, False],
        [True, True, False, False],
    ]


def test_a_split_that_no_line_names_is_held_out_of_training(tmp_path: Path) -> None:
    lines = rows().splitlines()
    parts = ["split", *(["train"] * 10), *(["test"] * 2)]
    table(tmp_path, "\n".join(f"{x},{y}" for x, y in zip(lines, parts, strict=True)))
    found = splits(CSVData(tmp_path, size=4))
    assert [len(x) for x in found.values() if x] == [8, 2, 2]
    test = found["test"]
    assert test is not None
    assert test.paths == ("10.png", "11.png")


def test_numbers_are_ordered_by_value_and_bias_shares_their_numbers(tmp_path: Path) -> None:
    lines = ["path,target,bias"]
    lines += [f"{n}.png,{(9, 10)[n % 2]},{('10.0', '9.0')[n % 2]}" for n in range(12)]
    data = CSVData(table(tmp_path, "\n".join(lines)), size=4)
    train = data.train()
    assert data.classes == ("9", "10")
    assert train.conflicting is not None
    assert bool(train.conflicting.all())  # 9 with 10 and 10 with 9


PLAIN = rows("sofa lawn", header="path,target,bias")


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace("cat", '"cat"').replace("\n0.png", '\n"0.png"'),
        PLAIN.replace(",", ' , ').replace("path", " Path"),
        PLAIN.replace("\n", "\n\n"),
        PLAIN.replace("\n0.png", "\n./0.png"),
        PLAIN.rstrip("\n"),
    ],
)  # fmt: skip
def test_dialects_of_tables(tmp_path: Path, text: str) -> None:
    (tmp_path / "plain").mkdir()
    wanted = CSVData(table(tmp_path / "plain", PLAIN), size=4).train()
    assert wanted.bias is not None
    assert equal(CSVData(table(tmp_path, text), size=4).train(), wanted)


def test_quoted_cells_hold_separators(tmp_path: Path) -> None:
    table(tmp_path, PLAIN.replace("0.png,", '"a, b.png",', 1))
    write(tmp_path / "a, b.png")
    found = splits(CSVData(tmp_path, size=4))
    assert "a, b.png" in [path for x in found.values() if x for path in x.paths or ()]


def test_paths_from_windows_and_absolute_ones(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "a.png", 50)
    (tmp_path / "data").mkdir()
    text = rows().replace("3.png", "deep\\3.png", 1)
    text = text.replace("4.png", str(tmp_path / "elsewhere" / "a.png"), 1)
    table(tmp_path / "data", text)
    write(tmp_path / "data" / "deep" / "3.png", 60)
    found = splits(CSVData(tmp_path / "data", size=4))
    greys = sorted(int(v) for x in found.values() if x for v in x.images[:, 0, 0, 0])
    assert greys == [0, 1, 2, 5, 6, 7, 8, 9, 10, 11, 50, 60]


def edited(old: str, new: str, text: str = PLAIN) -> str:
    assert old in text
    return text.replace(old, new, 1)


SPLIT = rows("train test", header="path,target,split")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (edited("path", "file"), r"has no column path \(it has file, target, bias\)"),
        (edited("path,target", "a,b"), "has no column path and no column target"),
        (edited("bias", "target"), "has 2 columns target; keep one"),
        ("", r"has no column path and no column target \(it has none\)"),
        ("path,target\n", "lists no images"),
        (edited("2.png,cat", "2.png,"), "line 4: target is empty; fill it in"),
        (edited("2.png,cat", " ,cat"), "line 4: path is empty"),
        (edited("2.png,cat,sofa", "2.png,cat,"), "line 4: bias is empty"),
        (edited("2.png,cat,sofa", ",,"), "line 4: path is empty"),
        (edited("2.png,cat,sofa", "2.png,cat"), "line 4 has 2 cells, expected 3"),
        (edited("2.png,cat,sofa", "2.png,cat,sofa,x"), "line 4 has 4 cells, expected 3"),
        (edited("2.png", "0.png"), "line 4: 0.png is already in line 2"),
        (edited("2.png", "./x/../0.png"), "line 4: 0.png is already in line 2"),
        (edited("2.png", '"2.png"x'), "line 4: .*; repair its quotes"),
        (edited("2.png", '"2.png'), "line 13: .*; repair its quotes"),
        (PLAIN.replace("dog", "cat"), r"has 1 classes among its training images \(cat\)"),
        ("path,target,split\n0.png,cat,train\n1.png,dog,later\n", "line 3: split is 'later'"),
        ("path,target,split\n0.png,cat,\n1.png,dog,test\n", "line 2: split is empty"),
        (SPLIT, r"has 1 classes among its training images \(cat\)"),
        (SPLIT.replace("train", "test"), "has 0 classes .*there is none"),
        ("path,target,split\n0.png,cat,train\n1.png,dog,train\n2.png,fox,test\n",
         "line 4: target 'fox' is that of no training image; expected one of cat, dog"),
        ("path,target,split\n0.png,cat,train\n1.png,dog,train\n2.png,cat,test\n",
         "has no test image of class 'dog'"),
        (rows(n=4), "Class 'cat' has 2 images, too few to hold out validation and test"),
    ],
)  # fmt: skip
def test_tables_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CSVData(table(tmp_path, text))


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"path,target\n0.png,caf\xe9\n")
    with pytest.raises(ValueError, match="not UTF-8 text"):
        CSVData(tmp_path)


def test_which_table_is_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has 0 CSV files \(none\)"):
        CSVData(tmp_path)
    table(tmp_path, rows(), "a.csv")
    table(tmp_path, rows().replace("dog", "fox"), "b.csv")
    with pytest.raises(FileNotFoundError, match=r"has 2 CSV files \(a.csv, b.csv\); choose one"):
        CSVData(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"There is no file '.*/c.csv'"):
        CSVData(tmp_path, "c.csv")
    assert CSVData(tmp_path, "b.csv").classes == ("cat", "fox")
    table(tmp_path, rows().replace("dog", "emu"))
    assert CSVData(tmp_path).classes == ("cat", "emu")


def test_missing_images_of_a_table_are_named(tmp_path: Path) -> None:
    table(tmp_path, rows())
    for number in (3, 8):
        (tmp_path / f"{number}.png").unlink()
    with pytest.raises(ValueError, match="2 of 12 images cannot be read") as caught:
        CSVData(tmp_path).train()
    assert "3.png: there is no such file" in str(caught.value)
    assert "8.png: there is no such file" in str(caught.value)


# ---- the command line ----


def save_shapes(root: Path) -> None:
    """The shapes as PNGs in class folders, and in a table without bias labels."""
    lines = ["path,target,split"]
    for split, n, seed in (("train", 120, 0), ("test", 30, 1)):
        images = make_images(n, seed=seed)
        for row, (pixels, target) in enumerate(zip(images.images, images.targets, strict=True)):
            path = root / split / images.classes[int(target)] / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)
            name = path.relative_to(root).as_posix()
            lines.append(f"{name},{path.parent.name},{split}")
    (root / "metadata.csv").write_text("\n".join(lines))


@pytest.mark.parametrize("kind", ["ClassFolder", "CSVData"])
@pytest.mark.parametrize("method", ["plain", "online"])
def test_training_without_bias_labels(tmp_path: Path, kind: str, method: str) -> None:
    save_shapes(tmp_path / "data")
    status = main(
        ["train", "--method", method, "--data", kind, "--data.root", str(tmp_path / "data"),
         "--data.size", "12", "--epochs", "1", "--batch_size", "32", "--run", str(tmp_path / "run")]
    )  # fmt: skip
    assert status == 0
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert 0 <= found["accuracy"] <= 1
    assert found["samples"] == 96
    assert found["conflicting_samples"] is None
    assert not {"accuracy_unbiased", "accuracy_worst_group", "detect_auroc"} & found.keys()


def test_damage_is_told_before_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_shapes(tmp_path / "data")
    (tmp_path / "data" / "test" / "ring" / "2.png").write_bytes(b"")
    (tmp_path / "data" / "train" / "ring" / "2.png").write_bytes(b"")
    run = tmp_path / "run"
    status = main(
        ["train", "--data", "ClassFolder", "--data.root", str(tmp_path / "data"), "--run", str(run)]
    )
    error = capsys.readouterr().err
    assert status == 1
    assert error.startswith("online-debias: 2 of 150 images cannot be read:\n")
    assert "Traceback" not in error
    assert not run.exists()


def test_a_data_set_by_import_path_in_settings(tmp_path: Path) -> None:
    settings = {
        "method": "plain",
        "data": {
            "class_path": "online_debias.data.FromDataset",
            "init_args": {
                "dataset": "tests.test_from_dataset.Greys",
                "arguments": {"form": "float", "n": 40},
                "test": 0.25,
            },
        },
        "epochs": 1,
        "batch_size": 8,
        "run": str(tmp_path / "run"),
    }
    (tmp_path / "settings.yaml").write_text(json.dumps(settings))
    assert main(["train", "--config", str(tmp_path / "settings.yaml")]) == 0
    assert json.loads((tmp_path / "run" / "results.json").read_text())["samples"] == 24


def checked(*given: Any) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    command.check(given[0], str(given[1]) if given[1] else None, console, given[2:])
    return console.export_text()


def test_check_counts_images_and_says_that_there_are_no_bias_labels(tmp_path: Path) -> None:
    tree(tmp_path)
    write(tmp_path / "dog" / "more.png")
    text = checked("ClassFolder", tmp_path, "--size", "16", "--validation=0")
    assert "train      17 images 3x16x16, 2 classes, 8 to 9 a class\n" in text
    assert "validation none\n" in text
    assert "test       4 images 3x16x16, 2 classes, 2 a class\n" in text
    assert "No bias labels" in text


def test_check_takes_a_table_and_its_settings(tmp_path: Path) -> None:
    table(tmp_path, PLAIN, "a.csv")
    table(tmp_path, PLAIN, "b.csv")
    text = checked("CSVData", tmp_path, "--file", "a.csv")
    assert "8 images 3x64x64, 2 classes, 0 bias-conflicting, 4 a class" in text
    assert "No bias labels" not in text
    with pytest.raises(ConfigError, match="has 2 CSV files"):
        checked("CSVData", tmp_path)
    with pytest.raises(ConfigError, match="CSVData has no option 'fiel'; the nearest are file"):
        checked("CSVData", tmp_path, "--fiel", "a.csv")
    with pytest.raises(ConfigError, match="CSVData needs --root, the folder"):
        checked("CSVData", None)
    with pytest.raises(ConfigError, match="FromDataset needs --dataset"):
        checked("FromDataset", None)
