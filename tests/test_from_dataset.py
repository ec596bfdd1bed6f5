"""Any map-style data set of images, Hugging Face's included."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from online_debias.data import FromDataset, HuggingFace
from online_debias.data.reading.pixels import to_pixels
from online_debias.settings import parser
from tests.test_own_data import splits


class Greys:
    """Twenty grey images in turn of two classes, as `form` makes them."""

    def __init__(self, form: str = "uint8", n: int = 20, bias: bool = False) -> None:
        self.form, self.n, self.bias = form, n, bias

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, row: int) -> tuple[Any, ...]:
        values = np.full((6, 8, 3), 10 * row % 250, "uint8")
        image: Any = {
            "uint8": torch.from_numpy(values).permute(2, 0, 1),
            "int64": torch.from_numpy(values).permute(2, 0, 1).long(),
            "float": torch.from_numpy(values).permute(2, 0, 1) / 255,
            "bfloat16": (torch.from_numpy(values).permute(2, 0, 1) / 255).bfloat16(),
            "grey": torch.from_numpy(values)[None, :, :, 0],
            "plane": values[:, :, 0],
            "hwc": values,
            "hw1": values[:, :, :1],
            "rgba": np.concatenate([values, np.full((6, 8, 1), 255, "uint8")], 2),
            "pillow": Image.fromarray(values),
        }[self.form]
        label = row % 2
        if self.bias:
            return image, torch.tensor(label), np.int64(1 - label)
        return image, label


FORMS = ["uint8", "int64", "float", "bfloat16", "grey", "plane", "hwc", "hw1", "rgba", "pillow"]


@pytest.mark.parametrize("form", FORMS)
def test_items_of_every_form(form: str) -> None:
    data = FromDataset(Greys(form))
    found = splits(data)
    assert [len(x) for x in found.values() if x] == [14, 2, 4]
    seen = [path for x in found.values() if x for path in x.paths or ()]
    assert sorted(seen) == sorted(f"item {row}" for row in range(20))
    for images in found.values():
        assert images is not None
        assert images.images.shape[1:] == (3, 6, 8)
        assert images.bias is None
        assert images.paths is not None
        for path, target, pixels in zip(images.paths, images.targets, images.images, strict=True):
            row = int(path.split()[1])
            assert int(target) == row % 2
            wanted = torch.full((3, 6, 8), 10 * row)
            tolerance = 1 if form == "bfloat16" else 0
            torch.testing.assert_close(pixels.long(), wanted, atol=tolerance, rtol=0)


def test_a_size_scales_items(tmp_path: Path) -> None:
    assert FromDataset(Greys(), size=4).train().images.shape == (14, 3, 4, 4)


def test_a_third_element_is_the_bias() -> None:
    for images in splits(FromDataset(Greys(bias=True))).values():
        assert images is not None
        assert images.bias is not None
        assert torch.equal(images.bias, 1 - images.targets)


def test_each_item_is_read_once() -> None:
    reads: list[int] = []

    class Counting(Greys):
        def __getitem__(self, row: int) -> tuple[Any, ...]:
            reads.append(row)
            return super().__getitem__(row)

    data = FromDataset(Counting())
    assert reads == []
    splits(data)
    splits(data)
    assert reads == list(range(20))


def test_other_splits_may_be_given() -> None:
    data = FromDataset(Greys(), validation=0, test=Greys(n=6), classes=["cat", "dog"])
    found = splits(data)
    assert found["validation"] is None
    assert [len(x) for x in found.values() if x] == [20, 6]
    assert found["test"] is not None
    assert found["test"].classes == ("cat", "dog")


def test_data_sets_by_import_path() -> None:
    path = "tests.test_from_dataset.Greys"
    data = FromDataset(path, {"form": "float", "n": 10}, test=path, test_arguments={"n": 4})
    assert [len(x) for x in splits(data).values() if x] == [8, 2, 4]
    with pytest.raises(ValueError, match=r"Greys cannot be called \(.*colour"):
        FromDataset(path, {"colour": 1})


def test_class_names_of_a_data_set_are_used() -> None:
    named = Greys()
    named.classes = ["cat", "dog"]  # type: ignore[attr-defined]
    assert FromDataset(named).train().classes == ("cat", "dog")
    assert FromDataset(Greys()).train().classes == ("0", "1")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"dataset": "nowhere.Data"}, "dataset: there is no 'nowhere.Data' to import"),
        ({"dataset": "tests.conftest.Gone"}, "dataset: there is no 'tests.conftest.Gone'"),
        ({"dataset": "Data"}, "there is no 'Data' to import.*such as mine.make_dataset"),
        ({"dataset": iter([1])}, "dataset is list_iterator, expected a map-style data set"),
        ({"dataset": {0: 1}}, "dataset is dict, expected a map-style data set"),
        ({"dataset": []}, "dataset has no items"),
        ({"dataset": Greys(), "arguments": {"n": 3}}, "arguments {'n': 3} are given, but nothing"),
        ({"dataset": Greys(), "test": 3}, "test=3.0 is no share"),
        ({"dataset": Greys(), "test": "nowhere.Data"}, "test: there is no 'nowhere.Data'"),
        ({"dataset": Greys(), "size": -1}, "size is -1"),
    ],
)
def test_data_sets_that_are_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        FromDataset(**arguments)


GREY = torch.zeros(3, 4, 4)


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ({"image": GREY}, "item 20: is dict, expected .image, target. or"),
        ((GREY,), "item 20: is tuple of 1, expected"),
        ((GREY, "cat"), "item 20: target is 'cat', expected a whole number from 0"),
        ((GREY, 0.5), "item 20: target is 0.5, expected a whole number"),
        ((GREY, -1), "item 20: target is -1, expected a whole number from 0"),
        ((GREY, 0, "sofa"), "item 20: bias is 'sofa', expected a whole number"),
        ((GREY, 0, 1), "item 20: has a bias where the first has none"),
        ((GREY - 1.5, 0), r"item 20: .*are from -1.5 to -1.5, expected 0 to 1 \(float32\)"),
        ((GREY * np.nan, 0), "item 20: the values of the image are from nan to nan"),
        ((GREY.int() + 256, 0), r"from 256 to 256, expected 0 to 255 \(int32\)"),
        ((torch.zeros(2, 5, 5), 0), r"the image is \[2, 5, 5\], expected \[H, W\]"),
        ((torch.zeros(4), 0), r"the image is \[4\], expected \[H, W\]"),
        ((torch.zeros(3, 0, 4), 0), "item 20: the values of the image are none"),
        ((torch.zeros(3, 4, 5), 0), "item 20: has 4 x 5 pixels where the first has 4 x 4"),
        (("a.png", 0), "item 20: the image is str, expected Pillow's, array or tensor"),
    ],
)
def test_items_that_are_refused(item: Any, text: str) -> None:
    items = [*((GREY, row % 2) for row in range(20)), item]
    with pytest.raises(ValueError, match="1 of 21 images cannot be read") as caught:
        FromDataset(items).train()
    assert re.search(text, str(caught.value)), caught.value


def test_all_items_that_fail_are_in_one_report() -> None:
    class Failing(Greys):
        def __getitem__(self, row: int) -> tuple[Any, ...]:
            if row in (0, 7):
                raise KeyError(f"row {row}")
            return super().__getitem__(row)

    with pytest.raises(ValueError, match="2 of 20 images cannot be read") as caught:
        FromDataset(Failing()).train()
    assert "item 0: KeyError: 'row 0'\n  item 7: KeyError: 'row 7'" in str(caught.value)


def test_a_file_that_pillow_opens_but_cannot_decode_is_reported(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype="uint8")
    Image.fromarray(noise).save(tmp_path / "cut.png")
    data = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    with Image.open(tmp_path / "cut.png") as cut:
        items = [*((noise, row % 2) for row in range(20)), (cut, 0)]
        with pytest.raises(ValueError, match="item 20: image file is truncated"):
            FromDataset(items).train()


def test_targets_beyond_the_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"targets up to 1 and 1 classes \(cat\)"):
        FromDataset(Greys(), classes=["cat"]).train()
    with pytest.raises(ValueError, match=r"targets up to 0 and 1 classes"):
        FromDataset([(GREY, 0)] * 5).train()
    with pytest.raises(ValueError, match="Class 'fox' has no images"):
        FromDataset(Greys(), classes=["cat", "dog", "fox"]).train()
    with pytest.raises(ValueError, match="test: class '1' .* has no images"):
        FromDataset(Greys(), test=[(GREY, 0)]).test()


def test_a_transposed_image_is_told_from_its_shape() -> None:
    stripes = torch.zeros(3, 4, 6, dtype=torch.uint8)
    stripes[0, :, 2] = 200
    assert torch.equal(to_pixels(stripes, None), stripes)
    assert torch.equal(to_pixels(stripes.permute(1, 2, 0).numpy(), None), stripes)


# ---- Hugging Face ----


def columns(n: int = 20) -> dict[str, list[Any]]:
    return {
        "image": [Image.new("L", (8, 8), 10 * row) for row in range(n)],
        "label": [("cat", "dog")[row % 2] for row in range(n)],
        "place": [("sofa", "lawn")[row % 2 ^ (row in (0, 1))] for row in range(n)],
    }


@pytest.fixture(scope="module")
def hf() -> Any:
    return pytest.importorskip("datasets")


def test_a_hugging_face_data_set(hf: Any) -> None:
    given = hf.Dataset.from_dict(columns())
    found = splits(HuggingFace(given, size=4, bias="place"))
    assert [len(x) for x in found.values() if x] == [14, 2, 4]
    conflicting = set()
    for images in found.values():
        assert images is not None
        assert images.classes == ("cat", "dog")
        assert images.paths is not None
        assert images.conflicting is not None
        for row, path in enumerate(images.paths):
            number = int(path.split()[1])
            assert images.images[row].unique().tolist() == [10 * number]
            assert int(images.targets[row]) == number % 2
            if images.conflicting[row]:
                conflicting.add(number)
    assert conflicting == {0, 1}


def test_saved_splits_class_labels_and_odd_images(hf: Any, tmp_path: Path) -> None:
    given = columns()
    given["image"][0] = Image.fromarray(np.full((8, 8), 0x8000, "uint16"))
    given["image"][1] = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    features = hf.Features(
        {"image": hf.Image(), "label": hf.ClassLabel(names=["dog", "cat"]),
         "place": hf.Value("string")}
    )  # fmt: skip
    whole = hf.Dataset.from_dict(given, features=features)
    part = whole.select(range(6))
    hf.disable_progress_bars()
    hf.DatasetDict(train=whole, val=part, test=part, more=part).save_to_disk(tmp_path / "saved")
    data = HuggingFace(str(tmp_path / "saved"), size=4)
    found = splits(data)
    assert [len(x) for x in found.values() if x] == [20, 6, 6]
    train = found["train"]
    assert train is not None
    assert train.classes == ("dog", "cat")
    assert train.targets.tolist() == [1, 0] * 10
    assert train.bias is None
    assert train.images[:3, 0, 0, 0].tolist() == [128, 255, 20]


def test_arrays_and_images_that_cannot_be_read(hf: Any) -> None:
    values = [np.full((3, 4, 4), row, "uint8") for row in range(10)]
    features = hf.Features({"image": hf.Array3D((3, 4, 4), "uint8"), "label": hf.Value("int64")})
    arrays = hf.Dataset.from_dict(
        {"image": values, "label": [row % 2 for row in range(10)]}, features=features
    )
    train = HuggingFace(arrays, size=4).train()
    assert train.classes == ("0", "1")
    assert set(train.images.flatten().tolist()) <= set(range(10))

    spoiled = columns()
    spoiled["image"][3] = {"bytes": b"no image", "path": None}
    features = hf.Features(
        {"image": hf.Image(), "label": hf.Value("string"), "place": hf.Value("string")}
    )
    with pytest.raises(ValueError, match="1 of 20 images .*\n  item 3: .*is no image"):
        HuggingFace(hf.Dataset.from_dict(spoiled, features=features), size=4).train()


def test_hugging_face_data_that_is_refused(hf: Any) -> None:
    whole = hf.Dataset.from_dict(columns())
    with pytest.raises(ValueError, match=r"no column 'img' \(it has image, label, place\)"):
        HuggingFace(whole, image="img")
    with pytest.raises(ValueError, match="dataset is list, expected a Dataset or DatasetDict"):
        HuggingFace([1])
    with pytest.raises(ValueError, match=r"no split train \(it has first\)"):
        HuggingFace(hf.DatasetDict(first=whole))
    odd = hf.Dataset.from_dict(columns() | {"label": ["fox"] * 20})
    with pytest.raises(ValueError, match="test has the target 'fox', which no training image"):
        HuggingFace(hf.DatasetDict(train=whole, test=odd))
    gaps = hf.Dataset.from_dict(columns() | {"label": ["cat", None] * 10})
    with pytest.raises(ValueError, match="train has 10 rows without a value of 'label'"):
        HuggingFace(gaps)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'online-debias\[hf\]'"):
        HuggingFace("x")


def test_what_makes_a_data_set_may_import_a_torchvision_that_does_not_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "takes_two.py").write_text(
        "from tests.test_from_dataset import Greys\n"
        "def greys():\n"
        "    if not tried:\n"
        "        tried.append(True)\n"
        "        raise RuntimeError('operator torchvision::nms does not exist')\n"
        "    return Greys(n=60)\n"
        "tried = []\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    given = {"class_path": "online_debias.data.FromDataset",
             "init_args": {"dataset": "takes_two.greys", "test": 0.2}}  # fmt: skip
    settings, _ = parser.resolve({"method": "plain", "data": given})
    assert settings.data.train().classes == ("0", "1")
