"""Published data sets, each from small trees laid out as the real ones are."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from online_debias import data as package
from online_debias.data import (
    BAR,
    BFFHQ,
    CelebA,
    ColoredMNIST,
    CorruptedCIFAR10,
    Dominoes,
    Images,
    Source,
    UrbanCars,
    Waterbirds,
)
from online_debias.data import source as sources
from online_debias.data.biasing.corruptions import CORRUPTIONS, corrupt
from online_debias.data.own.annotations import as_table, read_rows
from online_debias.data.reading.cifar10 import CLASSES, Cifar10
from online_debias.data.reading.lff_layout import cumulative_biases, read_arrays
from online_debias.data.sets.colored_mnist import COLOURS, ink
from online_debias.data.sets.urban_cars import bias_label


def paint(path: Path, *values: int, side: int = 8) -> None:
    """One image of one colour; PNG keeps it exactly, JPEG nearly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (*values, 0, 0, 0)[:3]).save(path)


def red(images: Images) -> list[int]:
    """The red value of each image of one colour."""
    assert images.images.amax((2, 3)).equal(images.images.amin((2, 3)))
    return images.images[:, 0, 0, 0].tolist()


def labels(images: Images) -> list[tuple[int, int]]:
    assert images.bias is not None
    return list(zip(images.targets.tolist(), images.bias.tolist(), strict=True))


def write_idx(folder: Path, n_train: int, n_test: int, side: int = 4, seed: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    draw = torch.Generator().manual_seed(seed)
    for split, n in (("train", n_train), ("t10k", n_test)):
        targets = torch.randperm(n, generator=draw) % 10
        pixels = torch.randint(256, (n, side, side), generator=draw)
        pixels[:, 0, 0] = targets * 20  # so that the class can be told from the image
        for part, tensor in (("images-idx3", pixels), ("labels-idx1", targets)):
            head = bytes((0, 0, 8, tensor.ndim)) + struct.pack(f">{tensor.ndim}I", *tensor.shape)
            body = tensor.to(torch.uint8).numpy().tobytes()
            (folder / f"{split}-{part}-ubyte").write_bytes(head + body)


def write_arrays(folder: Path, n: int, side: int = 4) -> None:
    for split in ("train", "valid"):
        (folder / split).mkdir(parents=True)
        targets = np.arange(n) % 10
        bias = np.where(np.arange(n) % 7 == 0, (targets + 1) % 10, targets)
        pixels = np.zeros((n, side, side, 3), np.uint8)
        pixels[..., 0] = (np.arange(n) % 256)[:, None, None]
        pixels[..., 2] = 9
        np.save(folder / split / "images.npy", pixels)
        np.save(folder / split / "attrs.npy", np.stack([targets, bias], 1).astype(np.uint8))
    (folder / "attr_names.pkl").write_bytes(b"not a pickle that anybody opens")


def write_pct(folder: Path, inner: str, valid: str, n_classes: int = 10, side: int = 8) -> None:
    """`folder/{inner}/{align,conflict}`, validation at `valid`; red is 10 * class + bias."""
    for number in range(n_classes):
        other = (number + 1) % n_classes
        aligned, conflicting = f"{number}_{number}", f"{number}_{other}"
        for i in range(3):
            name = f"{i}_{aligned}.png"
            paint(folder / inner / "align" / str(number) / name, 11 * number, side=side)
        where = folder / inner / "conflict" / str(number) / f"7_{conflicting}.png"
        paint(where, 10 * number + other, side=side)
        paint(folder / valid / f"8_{aligned}.png", 11 * number, side=side)
        for name, value in ((aligned, 11 * number), (conflicting, 10 * number + other)):
            paint(folder / "test" / str(number) / f"9_{name}.png", value, side=side)


# The protocol of "Learning from Failure" ------------------------------------------------------


def test_cumulative_biases_equal_the_recipe_done_by_hand() -> None:
    targets = torch.arange(10).repeat_interleave(torch.arange(95, 105))
    targets = targets[torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))]
    for skew in (0.05, 0.02, 0.005, 0.9):
        bias = cumulative_biases(targets, 10, skew)
        for label in range(10):
            members = [i for i, target in enumerate(targets.tolist()) if target == label]
            end, wanted = 0.0, list[int]()
            for other in range(10):
                end += 1 - skew if other == label else skew / 9
                wanted += [other] * (round(len(members) * end) - len(wanted))
            assert bias[members].tolist() == wanted


def test_the_share_that_conflicts_is_the_skew_and_none_at_all_is_even() -> None:
    targets = torch.arange(10).repeat(1000)
    assert ((cumulative_biases(targets, 10, 0.02) != targets).sum() - 200).abs() <= 10
    counts = torch.bincount(cumulative_biases(targets, 10, 0.9) * 10 + targets, minlength=100)
    assert counts.min() >= 99 and counts.max() <= 101


def test_ink_is_gray_times_colour_rounded_down() -> None:
    gray = torch.tensor([[[0, 100], [255, 7]]], dtype=torch.uint8)
    found = ink(gray, torch.tensor([[1.0, 0.5, 0.33]]))
    for channel, share in enumerate((1.0, 0.5, 0.33)):
        wanted = [[int(value * share) for value in row] for row in gray[0].tolist()]
        assert found[0, channel].tolist() == wanted


def test_coloured_mnist_is_built_from_idx_files(tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST" / "raw", 1000, 200)
    source = ColoredMNIST(tmp_path, skew=0.05, severity=4)
    train, test = source.train(), source.test()
    assert train.images.shape == (1000, 3, 4, 4) and source.validation() is None
    assert train.bias is not None and test.bias is not None
    assert torch.equal(train.bias, cumulative_biases(train.targets, 10, 0.05))
    assert torch.equal(test.bias, cumulative_biases(test.targets, 10, 0.9))
    # the image tells its class by its first pixel, and its bias by its colour
    brightest = train.images.flatten(2).amax(2).float()
    hue = brightest / brightest.amax(1, keepdim=True)
    colours = torch.tensor(COLOURS)
    nearest = torch.cdist(hue, colours / colours.amax(1, keepdim=True)).argmin(1)
    assert (nearest == train.bias).float().mean() > 0.99
    assert torch.equal(train.images, ColoredMNIST(tmp_path, skew=0.05).train().images)


def test_severity_makes_colours_crisper(tmp_path: Path) -> None:
    write_idx(tmp_path, 1000, 20)
    spread = []
    for severity in (1, 2, 3, 4):
        train = ColoredMNIST(tmp_path, severity=severity, seed=3).train()
        assert train.bias is not None
        top = train.images[train.bias == 3].flatten(2).amax(2).float()
        share = top[:, 2] / top[:, 1]
        spread.append(float(share.std()))
    assert spread == sorted(spread, reverse=True) and spread[0] > 2 * spread[3]


def test_what_lies_behind_the_first_images_is_for_validation(tmp_path: Path) -> None:
    write_idx(tmp_path, 1500, 20)
    source = ColoredMNIST(tmp_path, skew=0.1, n_train=400)
    train, validation = source.train(), source.validation()
    assert validation is not None and len(train) == 400 and len(validation) == 1100
    everything = ColoredMNIST(tmp_path, skew=0.1).train()
    assert torch.equal(validation.targets, everything.targets[400:])
    assert validation.bias is not None
    assert torch.equal(validation.bias, cumulative_biases(validation.targets, 10, 0.1))


@pytest.mark.parametrize("inside", [True, False])
def test_the_arrays_as_released_are_read(tmp_path: Path, inside: bool) -> None:
    name = "ColoredMNIST-Skewed0.005-Severity2"
    write_arrays(tmp_path / name, 50)
    root = tmp_path / name if inside else tmp_path
    source = ColoredMNIST(root, skew=0.005, severity=2)
    train = source.train()
    assert train.images.shape == (50, 3, 4, 4) and red(train) == list(range(50))
    assert train.images[:, 2].unique().tolist() == [9]
    expected = [(i % 10, (i + (i % 7 == 0)) % 10) for i in range(50)]
    assert labels(train) == expected and labels(source.test()) == expected
    assert source.validation() is None


def test_some_of_the_released_images_can_be_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "VALIDATION_AT_LEAST", 20)
    write_arrays(tmp_path / "ColoredMNIST-Skewed0.02-Severity4", 200)
    source = ColoredMNIST(tmp_path, n_train=150)
    train, validation = source.train(), source.validation()
    assert validation is not None
    assert red(train) == sorted(red(train)) and len(set(red(train))) == 150
    assert sorted(red(train) + red(validation)) == list(range(200))
    assert red(train) != list(range(150)), "their order is that of the classes' biases"
    assert red(train) == red(ColoredMNIST(tmp_path, n_train=150).train())


def test_a_released_set_of_the_skew_goes_before_plain_images(tmp_path: Path) -> None:
    write_idx(tmp_path, 1000, 20)
    write_arrays(tmp_path / "ColoredMNIST-Skewed0.02-Severity4", 50)
    assert len(ColoredMNIST(tmp_path).train()) == 50
    assert len(ColoredMNIST(tmp_path, skew=0.05).train()) == 1000


@pytest.mark.parametrize("valid", ["1pct/valid", "valid"])
def test_coloured_mnist_is_read_from_png_files(tmp_path: Path, valid: str) -> None:
    write_pct(tmp_path / "cmnist", "1pct", valid, side=28)
    source = ColoredMNIST(tmp_path, skew=0.01)
    train, validation, test = source.train(), source.validation(), source.test()
    assert validation is not None
    assert (len(train), len(validation), len(test)) == (40, 10, 20)
    for images in (train, validation, test):
        assert red(images) == [10 * target + bias for target, bias in labels(images)]
        assert images.images.shape[1:] == (3, 28, 28)
    assert train.conflicting is not None and int(train.conflicting.sum()) == 10
    assert train.paths is not None and train.paths[0] == "cmnist/1pct/align/0/0_0_0.png"
    part = ColoredMNIST(tmp_path / "cmnist", skew=0.01, n_train=35)
    assert len(part.train()) == 35
    for path in (tmp_path / "cmnist").rglob("valid/*.png"):
        path.unlink()
    assert part.validation() is None
    for path in (tmp_path / "cmnist" / "test").rglob("*.png"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="has no images for test"):
        part.test()


def test_damaged_arrays_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "ColoredMNIST-Skewed0.02-Severity4"
    write_arrays(folder, 50)
    np.save(folder / "train" / "attrs.npy", np.zeros((49, 2), np.uint8))
    with pytest.raises(ValueError, match=r"attrs.npy' must hold class and bias of each of the 50"):
        ColoredMNIST(tmp_path).train()
    np.save(folder / "train" / "images.npy", np.zeros((50, 3, 4, 4), np.float32))
    with pytest.raises(ValueError, match=r"images.npy' must hold .*not \[50, 3, 4, 4\] float32"):
        ColoredMNIST(tmp_path).train()
    np.save(folder / "train" / "images.npy", np.array([{"an": "object"}]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"images.npy' is not a plain array"):
        ColoredMNIST(tmp_path).train()
    (folder / "train" / "images.npy").write_bytes(b"")
    with pytest.raises(ValueError, match=r"images.npy' is not a plain array"):
        ColoredMNIST(tmp_path).train()
    (folder / "valid" / "attrs.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"valid/attrs.npy' is missing"):
        read_arrays(folder, "valid", CLASSES)


def test_png_files_whose_names_do_not_tell_the_labels_are_named(tmp_path: Path) -> None:
    write_pct(tmp_path / "cmnist", "1pct", "valid", side=28)
    paint(tmp_path / "cmnist" / "1pct" / "align" / "0" / "odd.png", 0)
    with pytest.raises(ValueError, match=r"odd.png' must end in _<class>_<bias>"):
        ColoredMNIST(tmp_path, skew=0.01).train()
    (tmp_path / "cmnist" / "1pct" / "align" / "0" / "odd.png").unlink()
    paint(tmp_path / "cmnist" / "test" / "0" / "1_0_12.png", 0)
    with pytest.raises(ValueError, match=r"1_0_12.png' names class 0 and bias 12"):
        ColoredMNIST(tmp_path, skew=0.01).test()


@pytest.mark.parametrize("source", [ColoredMNIST, CorruptedCIFAR10])
def test_bad_arguments_of_the_protocol_are_refused(
    tmp_path: Path, source: type[ColoredMNIST | CorruptedCIFAR10]
) -> None:
    write_idx(tmp_path, 100, 20)
    write_binary(tmp_path)
    for skew in (0, 1, -0.1, 2):
        with pytest.raises(ValueError, match=f"skew={skew} must be between 0 and 1"):
            source(tmp_path, skew=skew)
    with pytest.raises(ValueError, match="severity=5 must be 1, 2, 3 or 4"):
        source(tmp_path, severity=5)
    with pytest.raises(ValueError, match="n_train=101 must be from 1 to 100"):
        source(tmp_path, n_train=101).train()


# CIFAR-10 -------------------------------------------------------------------------------------


def cifar_pixels(n: int) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randint(256, (n, 3, 32, 32), generator=draw, dtype=torch.uint8)


def write_binary(folder: Path, per_batch: int = 20) -> tuple[Tensor, Tensor]:
    """Five batches and one to test on; returns the training images and their classes."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels, targets = cifar_pixels(6 * per_batch), torch.arange(6 * per_batch) % 10
    rows = torch.cat([targets[:, None].to(torch.uint8), pixels.flatten(1)], 1)
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    for name, batch in zip(names, rows.split(per_batch), strict=True):
        (folder / name).write_bytes(batch.numpy().tobytes())
    return pixels[: 5 * per_batch], targets[: 5 * per_batch]


def write_folders(folder: Path) -> None:
    """Files numbered over all classes, as in the original order; red is the number."""
    for split, n in (("train", 120), ("test", 20)):
        for i in range(n):
            paint(folder / split / CLASSES[(3 * i) % 10] / f"{i}.png", i, side=32)


@pytest.mark.parametrize("name", ["cifar-10-batches-bin", "."])
def test_the_binary_version_is_read(tmp_path: Path, name: str) -> None:
    pixels, targets = write_binary(tmp_path / name)
    cifar = Cifar10(tmp_path, "")
    assert torch.equal(cifar.targets("train"), targets)
    assert torch.equal(cifar.images("train", slice(15, 60)), pixels[15:60])
    assert len(cifar.targets("test")) == len(cifar.images("test", slice(None))) == 20


@pytest.mark.parametrize("name", ["cifar10", "."])
def test_class_folders_are_read_in_the_order_of_the_numbers(tmp_path: Path, name: str) -> None:
    write_folders(tmp_path / name)
    cifar = Cifar10(tmp_path, "")
    assert cifar.targets("train").tolist() == [(3 * i) % 10 for i in range(120)]
    assert cifar.images("train", slice(5, 110))[:, 0, 0, 0].tolist() == list(range(5, 110))
    assert len(cifar.targets("test")) == 20


def test_pickled_and_damaged_cifar_is_refused(tmp_path: Path) -> None:
    batch = tmp_path / "cifar-10-batches-py" / "test_batch"
    batch.parent.mkdir()
    batch.write_bytes(b"\x80\x04.")
    for root in (tmp_path, batch.parent):
        with pytest.raises(ValueError, match="pickled version of CIFAR-10, which is not read"):
            CorruptedCIFAR10(root)
    write_binary(tmp_path)
    (tmp_path / "data_batch_3.bin").write_bytes(bytes(3000))
    with pytest.raises(ValueError, match=r"data_batch_3.bin' must hold rows of 3073 bytes"):
        CorruptedCIFAR10(tmp_path).train()
    (tmp_path / "data_batch_3.bin").write_bytes(bytes([10]) * 3073)
    with pytest.raises(ValueError, match=r"data_batch_3.bin' must hold rows of 3073 bytes"):
        CorruptedCIFAR10(tmp_path).train()
    (tmp_path / "data_batch_3.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"data_batch_3.bin' must hold rows of 3073 bytes"):
        CorruptedCIFAR10(tmp_path).train()


def test_folders_of_other_classes_are_refused(tmp_path: Path) -> None:
    write_folders(tmp_path)
    paint(tmp_path / "train" / "zebra" / "1.png", 1)
    with pytest.raises(ValueError, match="zebra is missing or too much"):
        CorruptedCIFAR10(tmp_path)


def test_each_image_has_the_corruption_of_its_bias(tmp_path: Path) -> None:
    pixels, targets = write_binary(tmp_path)
    source = CorruptedCIFAR10(tmp_path, skew=0.2, severity=2)
    train = source.train()
    assert train.bias is not None and train.classes == CLASSES
    assert torch.equal(train.targets, targets)
    assert torch.equal(train.bias, cumulative_biases(targets, 10, 0.2))
    checked = 0
    for label, name in enumerate(CORRUPTIONS):
        if name in ("brightness", "contrast", "jpeg", "pixelate", "saturate"):  # without draws
            rows = train.bias == label
            wanted = corrupt(pixels[rows], name, 3, torch.Generator())
            assert torch.equal(train.images[rows], wanted)
            checked += int(rows.sum())
    assert checked > 30
    assert not (train.images == pixels).flatten(1).all(1).any()
    assert torch.equal(
        train.images, CorruptedCIFAR10(tmp_path, skew=0.2, severity=2).train().images
    )
    other = CorruptedCIFAR10(tmp_path, skew=0.2, severity=2, seed=1).train()
    assert not torch.equal(train.images, other.images) and labels(train) == labels(other)
    assert len(source.test()) == 20 and source.validation() is None


def test_corrupted_cifar_is_read_as_released(tmp_path: Path) -> None:
    write_arrays(tmp_path / "CorruptedCIFAR10-Type0-Skewed0.02-Severity4", 50, side=32)
    assert red(CorruptedCIFAR10(tmp_path).train()) == list(range(50))
    write_pct(tmp_path / "cifar10c", "0.5pct", "0.5pct/valid", side=32)
    source = CorruptedCIFAR10(tmp_path, skew=0.005)
    train, validation = source.train(), source.validation()
    assert validation is not None and (len(train), len(validation)) == (40, 10)
    assert red(train) == [10 * target + bias for target, bias in labels(train)]
    assert train.classes == CLASSES and train.images.shape[1:] == (3, 32, 32)


# Dominoes -------------------------------------------------------------------------------------


def test_dominoes_put_the_bias_above_the_class(tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST" / "raw", 500, 200, seed=1)
    write_idx(tmp_path / "FashionMNIST" / "raw", 1500, 100, seed=2)
    source = Dominoes(tmp_path, rho=0.9, n_train=500)
    train, validation, test = source.train(), source.validation(), source.test()
    assert validation is not None
    assert (len(train), len(validation), len(test)) == (500, 1000, 100)
    for images in (train, validation, test):
        assert images.images.shape[1:] == (3, 8, 4) and images.bias is not None
        for channel in range(3):
            assert torch.equal(images.images[:, channel, 0, 0], 20 * images.bias)
            assert torch.equal(images.images[:, channel, 4, 0], 20 * images.targets)
    assert train.conflicting is not None
    counts = torch.bincount(train.targets).tolist()
    assert int(train.conflicting.sum()) == sum(round(0.1 * count) for count in counts)
    assert test.bias is not None and torch.bincount(test.bias).tolist() == [10] * 10
    assert train.classes[0] == "t-shirt"
    tops = train.images[train.targets == 3][:, 0, :4]
    assert len(tops.flatten(1).unique(dim=0)) > 20, "different digits of one class"
    assert torch.equal(train.images, Dominoes(tmp_path, rho=0.9, n_train=500).train().images)


def test_a_garment_can_be_above_a_photograph_with_a_black_margin(tmp_path: Path) -> None:
    write_idx(tmp_path / "FashionMNIST" / "raw", 200, 100, side=28)
    pixels, targets = write_binary(tmp_path)
    train = Dominoes(tmp_path, top="FashionMNIST", bottom="CIFAR10").train()
    assert train.images.shape == (100, 3, 64, 32) and train.bias is not None
    assert train.classes == CLASSES and torch.equal(train.targets, targets)
    assert torch.equal(train.images[:, :, 32:], pixels)
    assert torch.equal(train.images[:, 0, 2, 2], 20 * train.bias)
    frame = train.images[:, :, :32].clone()
    frame[:, :, 2:30, 2:30] = 0
    assert not frame.any()


def test_bad_dominoes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no train-images"):
        Dominoes(tmp_path)
    write_idx(tmp_path / "raw", 100, 20)
    with pytest.raises(ValueError, match="holds the same files for MNIST and FashionMNIST"):
        Dominoes(tmp_path)
    write_idx(tmp_path / "FashionMNIST" / "raw", 100, 20)
    with pytest.raises(ValueError, match=r"rho=1.5 must be in \[0, 1\]"):
        Dominoes(tmp_path, rho=1.5)
    with pytest.raises(ValueError, match="must be two different sets"):
        Dominoes(tmp_path, top="FashionMNIST", bottom="FashionMNIST")
    with pytest.raises(ValueError, match="n_train=0 must be from 1 to 100"):
        Dominoes(tmp_path, n_train=0)
    with pytest.raises(FileNotFoundError, match="holds no CIFAR-10"):
        Dominoes(tmp_path, bottom="CIFAR10")
    (tmp_path / "raw" / "train-labels-idx1-ubyte").write_bytes(
        bytes((0, 0, 8, 1, 0, 0, 0, 99)) + bytes(99)
    )
    with pytest.raises(ValueError, match="must hold a label for each of the 100 images"):
        Dominoes(tmp_path).train()


def test_few_images_left_are_no_validation_set(tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST" / "raw", 100, 20)
    write_idx(tmp_path / "FashionMNIST" / "raw", 100, 20)
    assert Dominoes(tmp_path, n_train=50).validation() is None
    assert sources.VALIDATION_AT_LEAST > 50


# Waterbirds -----------------------------------------------------------------------------------

BIRDS = [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 2), (1, 1, 2)]


def write_birds(folder: Path, rows: list[tuple[int, int, int]] = BIRDS) -> None:
    lines = ["img_id,img_filename,y,split,place,place_filename"]
    for i, (y, place, split) in enumerate(rows):
        paint(folder / f"00{i}.Bird" / "bird.png", 10 * y + place, i)
        lines.append(f'{i},00{i}.Bird/bird.png,{y},{split},{place},"/f/forest, dark/{i}.jpg"')
    (folder / "metadata.csv").write_text("\r\n".join(lines) + "\r\n")


@pytest.mark.parametrize("name", ["waterbird_complete95_forest2water2", "."])
def test_waterbirds_are_read_from_their_table(tmp_path: Path, name: str) -> None:
    write_birds(tmp_path / name)
    source = Waterbirds(tmp_path, size=8)
    splits = [source.train(), source.validation(), source.test()]
    for number, images in enumerate(splits):
        assert images is not None and images.images.shape[1:] == (3, 8, 8)
        assert labels(images) == [(y, place) for y, place, split in BIRDS if split == number]
        assert red(images) == [10 * target + bias for target, bias in labels(images)]
    assert source.train().classes == ("landbird", "waterbird")


def test_a_bad_table_of_waterbirds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "metadata.csv"

    def refused(text: str, message: str) -> None:
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            Waterbirds(tmp_path)

    header = "img_filename,y,split,place\n"
    refused("img_filename,y,split\na.jpg,0,0\n", "has no column place; it has img_filename, y")
    refused(header + "a.jpg,0,0,0\nb.jpg,2,0,0\n", "says '2' for y in row 2: .*from 0 to 1")
    refused(header + "a.jpg,0,3,0\n", "says '3' for split in row 1: .*0, 1, 2, train")
    refused(header + "a.jpg,0,0\n", "has 3 cells in row 1, but 4 columns")
    refused(header + "a.jpg,0,0,0\n", "has no row for validation")
    refused("", "is empty")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is not a text file"):
        Waterbirds(tmp_path)


def test_damaged_birds_are_refused_or_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_birds(tmp_path, BIRDS + BIRDS[:4])
    (tmp_path / "001.Bird" / "bird.png").write_bytes(b"\x89PNG")
    (tmp_path / "006.Bird" / "bird.png").unlink()
    with pytest.raises(ValueError, match="cannot be read") as caught:
        Waterbirds(tmp_path, size=8).train()
    assert "001.Bird" in str(caught.value) and "006.Bird" in str(caught.value), "one report"
    assert len(Waterbirds(tmp_path, size=8, damaged="skip").train()) == 7
    assert "001.Bird/bird.png" in capsys.readouterr().err
    with pytest.raises(ValueError, match="damaged='ignore' must be refuse or skip"):
        Waterbirds(tmp_path, damaged="ignore")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="size is 0"):
        Waterbirds(tmp_path, size=0)


# CelebA ---------------------------------------------------------------------------------------

# (blond, male, smiling, split): blond men are rare, those who smile are mostly blond
FACES = (
    [(0, 1, 0, 0)] * 4 + [(0, 0, 0, 0)] * 2 + [(1, 0, 1, 0)] * 3 + [(1, 1, 1, 0)]
    + [(0, 1, 0, 1), (1, 0, 1, 1)]
    + [(0, 0, 1, 2), (1, 1, 0, 2)]
)  # fmt: skip
NAMES = ("Blond_Hair", "Male", "Smiling")
SIGN = {0: "-1", 1: "1"}


def write_faces(folder: Path) -> None:
    for i, (blond, male, smiling, _) in enumerate(FACES):
        paint(folder / f"{i:06d}.png", 100 * blond + 10 * male + smiling)


def kaggle(root: Path) -> None:
    write_faces(root / "img_align_celeba" / "img_align_celeba")
    rows = [
        f"{i:06d}.png,{','.join(SIGN[value] for value in face[:3])}" for i, face in enumerate(FACES)
    ]
    root.joinpath("list_attr_celeba.csv").write_text(
        "\n".join(["image_id," + ",".join(NAMES), *rows])
    )
    splits = [f"{i:06d}.png,{face[3]}" for i, face in enumerate(FACES)]
    root.joinpath("list_eval_partition.csv").write_text("\n".join(["image_id,partition", *splits]))


def group_dro(root: Path) -> None:
    kaggle(root / "celebA" / "data")


def torchvision(root: Path) -> None:
    folder = root / "celeba"
    write_faces(folder / "img_align_celeba")
    rows = [
        f"{i:06d}.png {' '.join(f'{SIGN[value]:>2}' for value in face[:3])}"
        for i, face in enumerate(FACES)
    ]
    text = "\n".join([str(len(FACES)), " ".join(NAMES) + " ", *rows])
    (folder / "list_attr_celeba.txt").write_text(text)
    splits = [f"{i:06d}.png {face[3]}" for i, face in enumerate(FACES)]
    (folder / "list_eval_partition.txt").write_text("\n".join(splits))


def dfr(root: Path) -> None:
    write_faces(root / "img_align_celeba")
    rows = [f"{i},{i:06d}.png,{f[0]},{f[3]},{f[1]},none" for i, f in enumerate(FACES)]
    header = "img_id,img_filename,y,split,place,place_filename"
    (root / "metadata.csv").write_text("\n".join([header, *rows]))


def eidos(root: Path) -> None:
    write_faces(root)
    words = ("train", "val", "test")
    rows = [f"{i:06d}.png {words[f[3]]} {f[0]} {f[1]} {f[2]}" for i, f in enumerate(FACES)]
    (root / "celeba.csv").write_text("\n".join(["image split " + " ".join(NAMES), *rows]))


@pytest.mark.parametrize("write", [kaggle, group_dro, torchvision, dfr, eidos])
def test_all_layouts_of_celeba_give_the_same(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path)
    source = CelebA(tmp_path, size=8)
    for number, images in enumerate((source.train(), source.validation(), source.test())):
        assert images is not None
        faces = [face for face in FACES if face[3] == number]
        assert red(images) == [100 * blond + 10 * male + smile for blond, male, smile, _ in faces]
        # blond and male disagree in 7 of 10 training images: 1 stands for women
        assert labels(images) == [(blond, 1 - male) for blond, male, _, _ in faces]
    train = source.train()
    assert train.classes == ("not Blond_Hair", "Blond_Hair")
    assert train.conflicting is not None and int(train.conflicting.sum()) == 3


def test_any_two_attributes_will_do_and_those_that_agree_are_not_flipped(tmp_path: Path) -> None:
    kaggle(tmp_path)
    train = CelebA(tmp_path, target="Smiling", bias="Blond_Hair", size=8).train()
    assert labels(train) == [(smile, blond) for blond, _, smile, split in FACES if split == 0]
    assert train.classes == ("not Smiling", "Smiling")


def test_bad_celeba_is_refused(tmp_path: Path) -> None:
    kaggle(tmp_path / "kaggle")
    with pytest.raises(ValueError, match="has no column Beard; it has image_id, Blond_Hair"):
        CelebA(tmp_path / "kaggle", target="Beard")
    with pytest.raises(ValueError, match="target and bias are both 'Male'"):
        CelebA(tmp_path / "kaggle", target="Male")
    partition = tmp_path / "kaggle" / "list_eval_partition.csv"
    partition.write_text("image_id,partition\n000000.png,0\n")
    with pytest.raises(ValueError, match=r"does not tell the split of 000001.png and 12 other"):
        CelebA(tmp_path / "kaggle")
    partition.unlink()
    with pytest.raises(FileNotFoundError, match="list_eval_partition.csv' is missing"):
        CelebA(tmp_path / "kaggle")
    (tmp_path / "dfr").mkdir()
    dfr(tmp_path / "dfr")
    with pytest.raises(ValueError, match="knows target Blond_Hair and bias Male only"):
        CelebA(tmp_path / "dfr", target="Smiling")


def test_tables_with_a_byte_order_mark_and_blank_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b'\xef\xbb\xbfa,b\r\n\r\n1,"x, y"\r\n')
    table = as_table(path, read_rows(path), ["b", "a"])
    assert table["a"] == ["1"] and table["b"] == ["x, y"]


# BAR ------------------------------------------------------------------------------------------


def test_bar_has_its_classes_in_the_names(tmp_path: Path) -> None:
    for number in range(20):
        paint(tmp_path / "BAR" / "train" / f"pole vaulting_{number}.png", 200, number)
        paint(tmp_path / "BAR" / "train" / f"diving_{number}.png", 100, number)
    for name, value in (("pole vaulting", 200), ("diving", 100)):
        paint(tmp_path / "BAR" / "test" / f"{name}_99.png", value)
    (tmp_path / "BAR" / "metadata.json").write_text("{}")
    source = BAR(tmp_path, size=8, validation=0.25)
    train, validation, test = source.train(), source.validation(), source.test()
    assert validation is not None
    assert train.classes == ("diving", "pole vaulting")
    for images, count in ((train, 15), (validation, 5), (test, 1)):
        assert torch.bincount(images.targets).tolist() == [count] * 2 and images.bias is None
        assert red(images) == [100 * (1 + target) for target in images.targets.tolist()]
    assert train.paths is not None and validation.paths is not None
    assert not set(train.paths) & set(validation.paths)
    assert validation.paths == BAR(tmp_path / "BAR", 8, validation=0.25).validation().paths  # type: ignore[union-attr]
    assert BAR(tmp_path, size=8, validation=0).validation() is None


def test_bar_with_conflicting_images_apart_has_bias_labels_to_train_on(tmp_path: Path) -> None:
    for number, name in enumerate(("climbing", "diving", "fishing")):
        for i in range(4):
            paint(tmp_path / "bar" / "train" / "align" / name / f"{i}_{number}_0.png", 10 * number)
        for share in ("1pct", "5pct"):
            for i in range(int(share[0])):
                folder = tmp_path / "bar" / "train" / "conflict" / share / name
                paint(folder / f"{i}_{number}_1.png", 10 * number + 1)
        paint(tmp_path / "bar" / "valid" / name / "1.png", 10 * number)
        paint(tmp_path / "bar" / "test" / name / "1.png", 10 * number)
    source = BAR(tmp_path, size=8, skew=0.05)
    train, validation, test = source.train(), source.validation(), source.test()
    assert validation is not None
    assert (len(train), len(validation), len(test)) == (12 + 15, 3, 3)
    assert train.conflicting is not None
    assert [value % 10 for value in red(train)] == train.conflicting.int().tolist()
    assert [value // 10 for value in red(train)] == train.targets.tolist()
    assert validation.bias is None and test.bias is None
    assert len(BAR(tmp_path, size=8, skew=0.01).train()) == 12 + 3
    with pytest.raises(FileNotFoundError, match="conflict/2pct' has no images"):
        BAR(tmp_path, skew=0.02)


def test_bad_bar_is_refused(tmp_path: Path) -> None:
    for name in ("diving_1", "diving_2", "fishing_1", "fishing_2"):
        paint(tmp_path / "train" / f"{name}.png", 1)
    with pytest.raises(FileNotFoundError, match="holds no images of BAR for test"):
        BAR(tmp_path)
    paint(tmp_path / "test" / "skating_1.png", 1)
    with pytest.raises(ValueError, match="is of class 'skating', but training has diving, fishing"):
        BAR(tmp_path)
    with pytest.raises(ValueError, match="validation=1 must be from 0 to below 1"):
        BAR(tmp_path, validation=1)
    paint(tmp_path / "train" / "odd.png", 1)
    with pytest.raises(ValueError, match=r"odd.png' must be named <class>_<number>"):
        BAR(tmp_path)


# bFFHQ ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("valid", ["0.5pct/valid", "valid"])
def test_bffhq_tests_on_conflicting_images_or_on_all(tmp_path: Path, valid: str) -> None:
    write_pct(tmp_path / "bffhq", "0.5pct", valid, n_classes=2)
    source = BFFHQ(tmp_path, size=8)
    train, validation, test = source.train(), source.validation(), source.test()
    assert validation is not None and train.classes == ("young", "old")
    assert (len(train), len(validation)) == (8, 2)
    assert labels(train).count((0, 0)) == labels(train).count((1, 1)) == 3
    assert sorted(labels(test)) == [(0, 1), (1, 0)]
    both = BFFHQ(tmp_path / "bffhq", size=8, test="all").test()
    assert sorted(labels(both)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for images in (train, validation, test, both):
        assert red(images) == [10 * target + bias for target, bias in labels(images)]


def test_bad_bffhq_is_refused(tmp_path: Path) -> None:
    write_pct(tmp_path / "bffhq", "0.5pct", "valid", n_classes=2)
    with pytest.raises(ValueError, match="test='some' must be conflicting or all"):
        BFFHQ(tmp_path, test="some")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="holds no bFFHQ of 2 %"):
        BFFHQ(tmp_path, skew=0.02)
    for path in (tmp_path / "bffhq" / "test").rglob("*.png"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="holds no images for test"):
        BFFHQ(tmp_path)


# UrbanCars ------------------------------------------------------------------------------------


def write_cars(folder: Path) -> None:
    names = ("urban", "country")
    for ratio, split in ((0.95, "train"), (0.5, "val"), (0.5, "test")):
        for group in range(8):
            car, ground, thing = group >> 2, group >> 1 & 1, group & 1
            name = f"obj-{names[car]}_bg-{names[ground]}_co_occur_obj-{names[thing]}"
            inner = folder / f"bg-{ratio}_co_occur_obj-{ratio}" / split / name
            for i in range(3 if car == ground == thing else 1):
                paint(inner / f"{i}.png", 100 * car + 10 * ground + thing)


@pytest.mark.parametrize("name", ["urbancars", "."])
def test_urban_cars_are_aligned_if_both_biases_are(tmp_path: Path, name: str) -> None:
    write_cars(tmp_path / name)
    source = UrbanCars(tmp_path, size=8)
    for images in (source.train(), source.validation(), source.test()):
        assert images is not None and images.conflicting is not None
        assert len(set(labels(images))) == 8 and len(images) == 12
        for value, (target, bias), conflicting in zip(
            red(images), labels(images), images.conflicting.tolist(), strict=True
        ):
            car, ground, thing = value // 100, value // 10 % 10, value % 10
            assert target == car and bias == bias_label(ground, thing)
            assert conflicting == (not car == ground == thing)


def test_missing_urban_cars_are_named(tmp_path: Path) -> None:
    write_cars(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"holds no images in bg-0.9_co_occur_obj-0.9/train"
    ):
        UrbanCars(tmp_path, ratio=0.9)


# All ------------------------------------------------------------------------------------------

PUBLISHED: list[type[Any]] = [
    BAR, BFFHQ, CelebA, ColoredMNIST, CorruptedCIFAR10, Dominoes, UrbanCars, Waterbirds,
]  # fmt: skip


@pytest.mark.parametrize("source", PUBLISHED)
def test_a_missing_root_is_named_and_the_expected_tree_shown(
    tmp_path: Path, source: type[Any]
) -> None:
    for root, problem in ((tmp_path / "nowhere", "is not a folder"), (tmp_path, "(holds|has) no")):
        with pytest.raises(FileNotFoundError, match=f"root '{root}' {problem}") as caught:
            source(root)
        assert "ROOT/" in str(caught.value)
        if source is not Dominoes:
            assert source.expected_tree in str(caught.value)


@pytest.mark.parametrize("source", PUBLISHED)
def test_published_sets_are_exported_with_a_summary_line(source: type[Any]) -> None:
    assert source.__name__ in package.__all__ and issubclass(source, Source)
    assert source.summary and "\n" not in source.summary and source.expected_tree
    assert all(len(line) <= 100 for line in source.expected_tree.splitlines())
