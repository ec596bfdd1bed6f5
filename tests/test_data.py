"""Data sets: images in memory, colouring, IDX files, and the sets made of them."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
from itertools import product
from math import ceil
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from online_debias.data import BiasedDigits, BiasedFashionMNIST, BiasedMNIST, Images, Source
from online_debias.data.biasing.colouring import (
    bahng_biases,
    balanced_biases,
    blend,
    fill_background,
    jitter,
    paint_patch,
    quantise,
)
from online_debias.data.reading.idx import find_idx, idx_tree, read_images, read_labels
from online_debias.data.sets import biased_digits as digits_module
from online_debias.data.sets.biased_mnist import COLOUR_MAP


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Images ---------------------------------------------------------------------------------------


def three_images() -> tuple[Tensor, Tensor, Tensor]:
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8)[:, None, None, None].expand(3, 3, 2, 2)
    return pixels.contiguous(), torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0])


def test_an_item_is_a_float_image_and_an_int_target_without_annotation() -> None:
    data = Images(*three_images(), ("cat", "dog"))
    image, target = data[1]
    assert len(data) == 3
    assert image.dtype == torch.float32 and image.shape == (3, 2, 2)
    torch.testing.assert_close(image, torch.full((3, 2, 2), 51 / 255 - 0.5))
    assert target == 1 and type(target) is int
    batch, targets = next(iter(torch.utils.data.DataLoader(data, batch_size=3)))
    assert torch.equal(batch, Images.to_float(data.images))
    assert targets.tolist() == [0, 1, 1]


def test_float_images_span_minus_a_half_to_a_half_and_leave_the_pixels_alone() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    floats = Images.to_float(pixels)
    assert floats[0] == -0.5 and floats[255] == 0.5
    torch.testing.assert_close(floats, torch.tensor([i / 255 - 0.5 for i in range(256)]))
    assert pixels[255] == 255
    with pytest.raises(ValueError, match=r"must be uint8 .* not \[2\] float32"):
        Images.to_float(torch.zeros(2))


def test_conflicting_compares_bias_and_target_and_is_none_without_annotations() -> None:
    images, targets, bias = three_images()
    conflicting = Images(images, targets, bias, ("cat", "dog")).conflicting
    assert conflicting is not None and conflicting.tolist() == [False, False, True]
    assert Images(images, targets, None, ("cat", "dog")).conflicting is None


def test_to_moves_every_tensor() -> None:
    moved = Images(*three_images(), ("cat", "dog")).to("cpu")
    assert moved.bias is not None and moved.classes == ("cat", "dog")
    images, targets, bias = three_images()
    assert torch.equal(moved.images, images)
    assert torch.equal(moved.targets, targets) and torch.equal(moved.bias, bias)
    assert Images(images, targets, None, ("cat", "dog")).to("cpu").bias is None


def test_images_refuse_what_does_not_fit() -> None:
    images, targets, bias = three_images()
    classes = ("cat", "dog")
    with pytest.raises(ValueError, match=r"images must be .* not \[3, 3, 2, 2\] float32"):
        Images(images.float(), targets, bias, classes)
    with pytest.raises(ValueError, match=r"images must be .* not \[3, 2, 2\] uint8"):
        Images(images[:, 0], targets, bias, classes)
    with pytest.raises(ValueError, match=r"targets must be \[3\] int64, not \[2\] int64"):
        Images(images, targets[:2], bias, classes)
    with pytest.raises(ValueError, match=r"bias must be \[3\] int64, not \[3\] int32"):
        Images(images, targets, bias.int(), classes)
    with pytest.raises(ValueError, match="targets holds label 1, but there are 1 classes"):
        Images(images, targets, bias, ("cat",))
    with pytest.raises(ValueError, match="targets holds label -1"):
        Images(images, targets - 1, bias, classes)
    with pytest.raises(ValueError, match="bias holds label -1"):
        Images(images, targets, bias - 1, classes)
    with pytest.raises(ValueError, match=r"class 'owl' \(label 2\) has no images"):
        Images(images, targets, bias, ("cat", "dog", "owl"))


# Colouring ------------------------------------------------------------------------------------


def uneven_targets() -> Tensor:
    targets = torch.tensor([label for label in range(10) for _ in range(101 + 7 * label)])
    return targets[torch.randperm(len(targets), generator=seeded(1))]


def bahng_by_hand(targets: list[int], rho: float, draw: torch.Generator) -> list[int]:
    bias = [-1] * len(targets)
    for label in range(10):
        members = [i for i, target in enumerate(targets) if target == label]
        members = [members[i] for i in torch.randperm(len(members), generator=draw).tolist()]
        others = [(label + k) % 10 for k in range(1, 10)]
        others = [others[i] for i in torch.randperm(9, generator=draw).tolist()]
        n_aligned = int(len(members) * rho)
        chunk = ceil((len(members) - n_aligned) / 9)
        for place, i in enumerate(members):
            bias[i] = label if place < n_aligned else others[(place - n_aligned) // chunk]
    return bias


@pytest.mark.parametrize("rho", [0.0, 0.1, 0.5, 0.95, 0.99, 1.0])
def test_bahng_biases_equal_the_recipe_done_by_hand(rho: float) -> None:
    targets = uneven_targets()
    bias = bahng_biases(targets, 10, rho, seeded())
    assert bias.tolist() == bahng_by_hand(targets.tolist(), rho, seeded())


def test_bahng_biases_of_few_conflicting_images_leave_some_colours_out() -> None:
    targets = torch.arange(10).repeat_interleave(1000)
    bias = bahng_biases(targets, 10, 0.996, seeded())
    for label in range(10):
        others = bias[(targets == label) & (bias != label)]
        assert len(others) == 4 and len(set(others.tolist())) == 4


@pytest.mark.parametrize("rho", [0.0, 0.1, 0.5, 0.98, 1.0])
def test_balanced_biases_have_the_exact_share_and_even_colours(rho: float) -> None:
    targets = uneven_targets()
    bias = balanced_biases(targets, 10, rho, seeded())
    for label in range(10):
        counts = torch.bincount(bias[targets == label], minlength=10).tolist()
        total = sum(counts)
        assert total - counts.pop(label) == round((1 - rho) * total)
        assert max(counts) - min(counts) <= 1


def test_what_conflicts_at_a_high_rho_conflicts_alike_at_a_lower_one() -> None:
    targets = uneven_targets()
    few, many = (balanced_biases(targets, 10, rho, seeded()) for rho in (0.98, 0.9))
    conflicting = few != targets
    assert torch.equal(few[conflicting], many[conflicting])
    assert (many != targets).sum() > conflicting.sum() > 0


def test_painting_equals_a_loop_over_pixels() -> None:
    gray = torch.randint(256, (3, 4, 5), generator=seeded(), dtype=torch.uint8)
    gray[:, :2] = 0
    colours = torch.randint(256, (3, 3), generator=seeded(1), dtype=torch.uint8)
    front, back = torch.rand(3, 3, generator=seeded(2)), torch.rand(1, 3, generator=seeded(3))
    filled, blended = fill_background(gray, colours), blend(gray / 255, front, back)
    patched = paint_patch(blended, front, 2)
    assert filled.dtype == torch.uint8 and filled.shape == blended.shape == (3, 3, 4, 5)
    for n, c, y, x in product(range(3), range(3), range(4), range(5)):
        opacity = gray[n, y, x].item() / 255
        mixed = opacity * front[n, c].item() + (1 - opacity) * back[0, c].item()
        assert filled[n, c, y, x] == (colours[n, c] if gray[n, y, x] == 0 else 255)
        assert blended[n, c, y, x].item() == pytest.approx(mixed, abs=1e-6)
        assert patched[n, c, y, x] == (front[n, c] if y < 2 and x < 2 else blended[n, c, y, x])


def test_quantise_rounds_and_clamps() -> None:
    assert quantise(torch.tensor([-1.0, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 9.0])).tolist() == [
        0, 0, 0, 1, 255, 255,
    ]  # fmt: skip


def test_jitter_has_the_deviation_asked_for_in_every_channel_and_stays_in_range() -> None:
    noisy = jitter(torch.full((5000, 3), 0.5), 0.05, seeded())
    torch.testing.assert_close(noisy.std(0), torch.full((3,), 0.05), atol=0.003, rtol=0)
    assert torch.corrcoef(noisy.T)[0, 1].abs() < 0.05
    wild = jitter(torch.full((5000, 3), 0.5), 3.0, seeded())
    assert wild.min() == 0 and wild.max() == 1
    assert torch.equal(jitter(noisy, 0.0, seeded()), noisy)


# IDX files ------------------------------------------------------------------------------------

SIDE = 4


def write_idx(path: Path, data: Tensor) -> None:
    raw = bytes((0, 0, 8, data.ndim)) + struct.pack(f">{data.ndim}I", *data.shape)
    raw += bytes(data.flatten().tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


def write_set(
    folder: Path, n_train: int = 60, n_test: int = 40, spelling: str = "-{}-ubyte"
) -> dict[str, Tensor]:
    written = {}
    for seed, (split, n) in enumerate((("train", n_train), ("t10k", n_test))):
        images = torch.randint(256, (n, SIDE, SIDE), generator=seeded(seed), dtype=torch.uint8)
        images[:, 0] = 0
        labels = (torch.arange(n) % 10).to(torch.uint8)
        for kind, idx, data in (("images", "idx3", images), ("labels", "idx1", labels)):
            write_idx(folder / f"{split}-{kind}{spelling.format(idx)}", data)
            written[f"{split}-{kind}"] = data
    return written


@pytest.mark.parametrize("folder", ["MNIST/raw", "raw", "."])
@pytest.mark.parametrize("spelling", ["-{}-ubyte", "-{}-ubyte.gz", ".{}-ubyte", ".{}-ubyte.gz"])
def test_idx_files_are_read_in_every_layout(tmp_path: Path, folder: str, spelling: str) -> None:
    written = write_set(tmp_path / folder, spelling=spelling)
    files = find_idx(tmp_path, "MNIST")
    for split in ("train", "t10k"):
        assert torch.equal(read_images(files, split), written[f"{split}-images"])
        labels = read_labels(files, split)
        assert labels.dtype == torch.int64
        assert torch.equal(labels, written[f"{split}-labels"].long())


def test_the_sets_own_folder_goes_before_the_root(tmp_path: Path) -> None:
    write_set(tmp_path, n_train=20)
    write_set(tmp_path / "FashionMNIST" / "raw", n_train=30)
    assert len(read_labels(find_idx(tmp_path, "FashionMNIST"), "train")) == 30
    assert len(read_labels(find_idx(tmp_path, "MNIST"), "train")) == 20


def test_a_missing_root_is_named_and_the_expected_tree_shown(tmp_path: Path) -> None:
    root = tmp_path / "nowhere"
    with pytest.raises(FileNotFoundError) as error:
        BiasedMNIST(root)
    assert f"root '{root}' is not a folder" in str(error.value)
    assert str(error.value).endswith(BiasedMNIST.expected_tree)
    assert "MNIST/raw/" in BiasedMNIST.expected_tree
    assert "FashionMNIST/raw/" in BiasedFashionMNIST.expected_tree


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write_set(tmp_path / "raw")
    (tmp_path / "raw" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="has no t10k-labels of MNIST"):
        find_idx(tmp_path, "MNIST")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("damage", ["cut", "longer", "empty", "garbage"])
def test_a_damaged_file_is_named(tmp_path: Path, packed: bool, damage: str) -> None:
    write_set(tmp_path, spelling="-{}-ubyte.gz" if packed else "-{}-ubyte")
    files = find_idx(tmp_path, "MNIST")
    path = files["train-images"]
    data = path.read_bytes()
    path.write_bytes(
        {"cut": data[:-20], "longer": data + b"more", "empty": b"", "garbage": b"<html>" * 9}[
            damage
        ]
    )
    with pytest.raises(ValueError, match="fetch it again") as error:
        read_images(files, "train")
    assert f"'{path}'" in str(error.value)


def test_a_gzip_file_damaged_inside_is_named(tmp_path: Path) -> None:
    write_set(tmp_path, spelling="-{}-ubyte.gz")
    files = find_idx(tmp_path, "MNIST")
    path = files["train-images"]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ValueError, match="is not a whole gzip file") as error:
        read_images(files, "train")
    assert f"'{path}'" in str(error.value)


def test_labels_in_place_of_images_are_refused(tmp_path: Path) -> None:
    write_set(tmp_path)
    files = find_idx(tmp_path, "MNIST")
    with pytest.raises(ValueError, match="not an IDX file of 3-axis uint8 data"):
        read_images({"train-images": files["train-labels"]}, "train")


def test_labels_that_do_not_match_the_images_are_refused(tmp_path: Path) -> None:
    write_set(tmp_path, n_train=60)
    path = tmp_path / "train-labels-idx1-ubyte"
    for labels in (torch.arange(59) % 10, torch.arange(60) % 11):
        write_idx(path, labels.to(torch.uint8))
        with pytest.raises(ValueError, match="one label below 10 for each of the 60") as error:
            BiasedMNIST(tmp_path, n_train=50).train()
        assert f"'{path}'" in str(error.value)


def test_download_fetches_only_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fashion_mnist(root: str, download: bool) -> None:
        asked.append((root, download))
        write_set(Path(root) / "FashionMNIST" / "raw", spelling="-{}-ubyte.gz")

    compat = ModuleType("online_debias.runtime.torchvision_compat")
    datasets = SimpleNamespace(FashionMNIST=fashion_mnist)
    compat.import_torchvision = lambda: SimpleNamespace(datasets=datasets)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "online_debias.runtime.torchvision_compat", compat)
    with pytest.raises(FileNotFoundError):
        BiasedFashionMNIST(tmp_path, n_train=60)
    assert asked == []
    for _ in range(2):
        assert len(BiasedFashionMNIST(tmp_path, n_train=60, download=True).train()) == 60
    assert asked == [(str(tmp_path), True)]


# Biased MNIST and Fashion-MNIST ---------------------------------------------------------------


def test_biased_mnist_paints_black_pixels_with_the_colour_of_the_bias(tmp_path: Path) -> None:
    written = write_set(tmp_path, n_train=200)
    train = BiasedMNIST(tmp_path, rho=0.8, n_train=200).train()
    assert train.bias is not None and train.conflicting is not None
    assert train.targets.tolist() == [i % 10 for i in range(200)]
    assert int(train.conflicting.sum()) == 40
    black = written["train-images"] == 0
    for image, dark, bias in zip(train.images, black, train.bias.tolist(), strict=True):
        for y, x in product(range(SIDE), range(SIDE)):
            pixel = tuple(image[:, y, x].tolist())
            assert pixel == (COLOUR_MAP[bias] if dark[y, x] else (255, 255, 255))


def test_biased_fashion_mnist_keeps_gray_values(tmp_path: Path) -> None:
    gray = write_set(tmp_path, n_train=60)["train-images"].double()
    source = BiasedFashionMNIST(tmp_path, rho=0.8, n_train=60)
    train = source.train()
    assert train.bias is not None
    colours = torch.tensor(COLOUR_MAP).double()[train.bias][:, :, None, None]
    exact = gray[:, None] + (255 - gray[:, None]) * colours / 255
    assert (train.images - exact).abs().max() <= 0.5001  # rounding alone
    assert source.classes[9] == "ankle boot"


def test_fashion_and_digits_share_the_draw(tmp_path: Path) -> None:
    write_set(tmp_path)
    digits, garments = (
        source(tmp_path, rho=0.5, n_train=60).train()
        for source in (BiasedMNIST, BiasedFashionMNIST)
    )
    assert digits.bias is not None and garments.bias is not None
    assert torch.equal(digits.bias, garments.bias)


def test_test_images_have_every_colour_equally_often(tmp_path: Path) -> None:
    write_set(tmp_path, n_test=300)
    test = BiasedMNIST(tmp_path, rho=1.0, n_train=60).test()
    assert test.bias is not None
    counts = torch.bincount(test.targets * 10 + test.bias, minlength=100)
    assert counts.tolist() == [3] * 100


def test_validation_lies_behind_the_training_images_and_is_as_biased(tmp_path: Path) -> None:
    written = write_set(tmp_path, n_train=6200)["train-images"]
    source = BiasedMNIST(tmp_path, rho=0.9, n_train=1000)
    validation = source.validation()
    assert validation is not None and validation.conflicting is not None
    assert int(validation.conflicting.sum()) == 500
    white = (validation.images == 255).all(1)
    assert torch.equal(white, written[-5000:] != 0)  # at most 5,000, from the end
    near = BiasedMNIST(tmp_path, n_train=5200).validation()
    assert near is not None and len(near) == 1000
    assert BiasedMNIST(tmp_path, n_train=5201).validation() is None


def test_the_seed_alone_decides_who_conflicts(tmp_path: Path) -> None:
    write_set(tmp_path, n_train=200)
    one, same, other = (
        BiasedMNIST(tmp_path, rho=0.5, n_train=200, seed=seed).train() for seed in (3, 3, 4)
    )
    assert one.bias is not None and same.bias is not None and other.bias is not None
    assert torch.equal(one.images, same.images) and torch.equal(one.bias, same.bias)
    assert not torch.equal(one.bias, other.bias)


@pytest.mark.parametrize("source", [BiasedMNIST, BiasedFashionMNIST])
def test_bad_arguments_are_refused_at_once(tmp_path: Path, source: type[BiasedMNIST]) -> None:
    write_set(tmp_path, n_train=60)
    with pytest.raises(ValueError, match=r"rho=1\.5 must be in \[0, 1\]"):
        source(tmp_path, rho=1.5)
    with pytest.raises(ValueError, match="n_train=60000 must be from 1 to 60"):
        source(tmp_path)
    with pytest.raises(ValueError, match="n_train=0 must be"):
        source(tmp_path, n_train=0)
    with pytest.raises(ValueError, match="class .* has no images"):
        source(tmp_path, n_train=9).train()


# Biased digits --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def train() -> Images:
    return BiasedDigits().train()


def test_digits_come_in_three_splits_of_rgb_images(train: Images) -> None:
    source = BiasedDigits()
    for data, size in ((train, 10000), (source.validation(), 400), (source.test(), 1988)):
        assert data.images.shape == (size, 3, 28, 28)
        assert data.images.dtype == torch.uint8
        assert data.classes == source.classes == tuple("0123456789")


def test_splits_share_no_original_and_miss_none() -> None:
    from sklearn.datasets import load_digits

    parts = [digits_module._originals(split) for split in ("train", "validation", "test")]
    assert [len(images) for images, _ in parts] == [1250, 50, 497]
    together = torch.cat([images.flatten(1) for images, _ in parts]) * 16
    everything = torch.tensor(load_digits().data, dtype=torch.float32)
    assert sorted(together.tolist()) == sorted(everything.tolist())
    for _, targets in parts:  # stratified: as in the whole, to within one image
        counts = torch.bincount(targets, minlength=10)
        shares = torch.bincount(torch.tensor(load_digits().target)) / 1797
        assert (counts - shares * len(targets)).abs().max() <= 1


@pytest.mark.parametrize("rho", [0.1, 0.95, 0.98, 1.0])
def test_each_class_has_exactly_its_share_of_conflicting_digits(rho: float) -> None:
    data = BiasedDigits(rho=rho, pixel_noise=0.0).validation()
    assert data.conflicting is not None
    for label in range(10):
        of_class = data.conflicting[data.targets == label]
        assert int(of_class.sum()) == round((1 - rho) * len(of_class))


def test_digits_to_test_on_have_every_colour_equally_often() -> None:
    test = BiasedDigits(rho=1.0).test()
    assert test.bias is not None
    for label in range(10):
        counts = torch.bincount(test.bias[test.targets == label], minlength=10)
        assert counts.max() - counts.min() <= 2  # one by rounding each half of the counts


def test_the_same_arguments_give_the_same_digits(train: Images) -> None:
    again = BiasedDigits().train()
    assert torch.equal(train.images, again.images) and torch.equal(train.targets, again.targets)
    assert train.bias is not None and again.bias is not None
    assert torch.equal(train.bias, again.bias)


def test_rho_and_noise_leave_the_shapes_alone() -> None:
    def shapes(**arguments: Any) -> Tensor:
        data = BiasedDigits(variant="patch", pixel_noise=0.0, **arguments).validation()
        return data.images[:, :, 4:, 4:]  # all but the coloured corner

    plain = shapes(rho=0.98)
    assert torch.equal(plain, shapes(rho=0.1))
    assert torch.equal(plain, shapes(rho=0.98, colour_noise=0.2))
    assert not torch.equal(plain, shapes(rho=0.98, seed=1))


def test_the_seed_does_not_move_originals_between_splits() -> None:
    one, other = (BiasedDigits(seed=seed).validation() for seed in (0, 1))
    assert torch.equal(one.targets, other.targets)


def test_each_variant_colours_its_own_part() -> None:
    palette = (torch.tensor(digits_module.COLOURS) * 255).round()
    images, quiet = {}, {"rho": 0.5, "colour_noise": 0.0, "pixel_noise": 0.0}
    for variant in ("bg", "fg", "patch"):
        data = BiasedDigits(variant=variant, **quiet).validation()  # type: ignore[arg-type]
        assert data.bias is not None
        images[variant] = data.images.float()
        colour = palette[data.bias][:, :, None, None]
    patch = images["patch"]
    assert torch.equal(patch[:, :, :4, :4], colour.expand(-1, -1, 4, 4))
    gray = patch[:, :1, 4:]  # below the patch
    assert torch.equal(patch[:, :, 4:], gray.expand(-1, 3, -1, -1))
    white_on_colour, colour_on_black = gray + (1 - gray / 255) * colour, gray / 255 * colour
    torch.testing.assert_close(images["bg"][:, :, 4:], white_on_colour, atol=1.1, rtol=0)
    torch.testing.assert_close(images["fg"][:, :, 4:], colour_on_black, atol=1.1, rtol=0)


def test_the_ten_colours_are_well_apart() -> None:
    colours = torch.tensor(digits_module.COLOURS)
    gaps = torch.cdist(colours, colours) + 9 * torch.eye(10)
    assert gaps.min() > 0.5
    assert colours.norm(dim=1).min() > 0.6  # seen on black
    assert (1 - colours).norm(dim=1).min() > 0.6  # and behind white


def test_noise_has_the_deviation_asked_for() -> None:
    def corner(**arguments: Any) -> Tensor:
        data = BiasedDigits(rho=1.0, **arguments).validation()
        return data.images[data.targets == 8][:, :, :3, :3] / 255  # .6, .2, .4: seldom clamped

    colour = corner(colour_noise=0.05, pixel_noise=0.0)
    assert torch.equal(colour.amax((2, 3)), colour.amin((2, 3)))  # one colour an image
    assert 0.035 < colour[:, :, 0, 0].std(0).mean() < 0.065
    pixels = corner(colour_noise=0.0, pixel_noise=0.05)
    assert 0.045 < pixels.std((0, 2, 3)).mean() < 0.055


def test_digits_stay_recognisable_and_fill_their_frame_like_mnist() -> None:
    source = BiasedDigits(variant="patch", pixel_noise=0.0)
    fit, test = source.train(), source.test()
    for data in (fit, test):
        data.images[:, :, :4, :4] = 0
    known, asked = (data.images[:, 0].flatten(1).float() for data in (fit, test))
    nearest = fit.targets[torch.cdist(asked, known).argmin(1)]
    assert (nearest == test.targets).float().mean() > 0.9
    rows = (fit.images[:, 0] > 128).any(2).float().sum(1)
    assert 17 < rows.mean() < 24
    edge = torch.cat([fit.images[:, 0, -1].flatten(), fit.images[:, 0, :, -1].flatten()])
    assert (edge > 128).float().mean() < 0.02


def test_warps_differ_from_one_another() -> None:
    data = BiasedDigits(variant="patch", pixel_noise=0.0).validation()
    eight = data.images[:8, 0].flatten(1).float()
    assert (torch.cdist(eight, eight) + 1e9 * torch.eye(8)).min() > 500


def test_bad_digit_arguments_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="variant='sky' must be one of bg, fg, patch"):
        BiasedDigits(variant="sky")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"rho=-0\.1 must be in \[0, 1\]"):
        BiasedDigits(rho=-0.1)
    for noise in ("colour_noise", "pixel_noise"):
        with pytest.raises(ValueError, match=f"{noise}=-1 must be a standard deviation"):
            BiasedDigits(**{noise: -1})  # type: ignore[arg-type]


# All ------------------------------------------------------------------------------------------


def test_every_source_has_a_summary_line_and_says_what_it_reads() -> None:
    for source in (BiasedDigits, BiasedMNIST, BiasedFashionMNIST):
        assert issubclass(source, Source)
        assert source.summary and "\n" not in source.summary
    assert BiasedDigits.expected_tree == ""
    assert BiasedMNIST.expected_tree == idx_tree("MNIST")


def test_importing_the_package_imports_neither_scikit_learn_nor_torchvision() -> None:
    code = (
        "import sys, online_debias.data; "
        "print([name for name in ('sklearn', 'torchvision', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.stdout.strip() == "[]"
