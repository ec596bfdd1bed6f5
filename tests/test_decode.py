"""Every kind of image file is converted, or named in one report."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from online_debias.data.reading import files
from online_debias.data.reading.decode import decode, suffixes, without_warnings
from online_debias.data.reading.files import Listing, load

SIDE = 12


def plain(mode: str, colour: Any) -> Image.Image:
    return Image.new(mode, (SIDE, SIDE), colour)


def array(value: float, dtype: str) -> Image.Image:
    return Image.fromarray(np.full((SIDE, SIDE), value, dtype))


def palette(transparent: bool) -> tuple[Image.Image, dict[str, Any]]:
    image = plain("P", 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    return image, {"transparency": 1} if transparent else {}


# name of the file, image, how it is saved, the colour it has to have
KINDS: dict[str, tuple[str, Image.Image, dict[str, Any], tuple[int, int, int]]] = {
    "rgb": ("a.png", plain("RGB", (10, 200, 30)), {}, (10, 200, 30)),
    "jpeg": ("a.JPG", plain("RGB", (10, 200, 30)), {"quality": 95}, (10, 200, 30)),
    "bmp": ("a.bmp", plain("RGB", (10, 200, 30)), {}, (10, 200, 30)),
    "grey": ("a.png", plain("L", 77), {}, (77, 77, 77)),
    "grey jpeg": ("a.jpeg", plain("L", 77), {}, (77, 77, 77)),
    "one bit": ("a.png", plain("1", 1), {}, (255, 255, 255)),
    "palette": ("a.png", *palette(False), (10, 200, 30)),
    "transparent palette": ("a.png", *palette(True), (255, 255, 255)),
    "transparent gif": ("a.gif", *palette(True), (255, 255, 255)),
    "grey and alpha": ("a.png", plain("LA", (0, 51)), {}, (204, 204, 204)),
    "rgb and alpha": ("a.png", plain("RGBA", (255, 0, 0, 51)), {}, (255, 204, 204)),
    "transparent colour": (
        "a.png", plain("RGB", (1, 2, 3)), {"transparency": (1, 2, 3)}, (255, 255, 255),
    ),
    "16 bit": ("a.png", array(0x8000, "uint16"), {}, (128, 128, 128)),
    "16 bit, dark": ("a.png", array(2 * 257, "uint16"), {}, (2, 2, 2)),
    "16 bit, big-endian": ("a.tif", array(0x8000, ">u2"), {}, (128, 128, 128)),
    "32 bit": ("a.tif", array(0x8000, "int32"), {}, (128, 128, 128)),
    "32 bit, constant and negative": ("a.tif", array(-5, "int32"), {}, (0, 0, 0)),
    "float to 1": ("a.tif", array(0.5, "float32"), {}, (128, 128, 128)),
    "float to 255": ("a.tif", array(77, "float32"), {}, (77, 77, 77)),
    "cmyk": ("a.tif", plain("CMYK", (0, 255, 255, 0)), {}, (255, 0, 0)),
    "cmyk jpeg": ("a.jpg", plain("CMYK", (0, 255, 255, 0)), {"quality": 95}, (255, 0, 0)),
    "animated gif": (
        "a.gif", plain("RGB", (255, 0, 0)),
        {"save_all": True, "append_images": [plain("RGB", (0, 0, 255))]}, (255, 0, 0),
    ),
    "animated webp": (
        "a.webp", plain("RGB", (255, 0, 0)),
        {"save_all": True, "append_images": [plain("RGB", (0, 0, 255))], "lossless": True},
        (255, 0, 0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_becomes_rgb(tmp_path: Path, kind: str) -> None:
    name, image, options, colour = KINDS[kind]
    image.save(tmp_path / name, **options)
    found = decode(tmp_path / name, 6)
    assert found.shape == (3, 6, 6)
    assert found.dtype == torch.uint8
    wanted = torch.tensor(colour)[:, None, None].expand(3, 6, 6)
    lossy = 3 if name.lower().endswith(("jpg", "jpeg")) else 0
    torch.testing.assert_close(found.int(), wanted.int(), atol=lossy, rtol=0)


def test_an_adobe_jpeg_holds_inverted_inks_as_the_test_says(tmp_path: Path) -> None:
    name, image, options, _ = KINDS["cmyk jpeg"]
    image.save(tmp_path / name, **options)
    with Image.open(tmp_path / name) as opened:
        assert opened.mode == "CMYK"
        assert "adobe" in opened.info


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, SIDE * SIDE).reshape(SIDE, SIDE)
    Image.fromarray(values.astype("uint16")).save(tmp_path / "a.png")
    found = decode(tmp_path / "a.png", SIDE)[0]
    np.testing.assert_allclose(found, values * 255 / 65535, atol=0.6)


def test_values_beyond_are_stretched(tmp_path: Path) -> None:
    values = np.linspace(-3, 4000, SIDE * SIDE).reshape(SIDE, SIDE)
    Image.fromarray(values.astype("float32")).save(tmp_path / "a.tif")
    found = decode(tmp_path / "a.tif", SIDE)[0]
    np.testing.assert_allclose(found, (values + 3) * 255 / 4003, atol=0.6)


TURNS: dict[int, Callable[[Any], Any]] = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: x.T,
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).T,
    8: lambda x: np.rot90(x, 1),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_the_orientation_of_the_camera_is_respected(tmp_path: Path, orientation: int) -> None:
    values = np.arange(SIDE * SIDE, dtype="uint8").reshape(SIDE, SIDE)
    image = Image.fromarray(values)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    wanted = TURNS[orientation](values)
    np.testing.assert_array_equal(decode(tmp_path / "a.png", SIDE)[0], wanted)


@pytest.mark.parametrize("shape", [(40, 40), (40, 80), (90, 30)])
def test_the_shorter_side_is_scaled_and_the_centre_cropped(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    height, width = shape
    rows, columns = np.mgrid[:height, :width]
    values = 128 + 60 * np.sin(rows / 5) + 60 * np.cos(columns / 7)
    image = Image.fromarray(values.astype("uint8"))
    image.save(tmp_path / "a.png")
    scale = 10 / min(shape)
    whole = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
    left, top = (whole.width - 10) // 2, (whole.height - 10) // 2
    wanted = np.asarray(whole.crop((left, top, left + 10, top + 10)), dtype=int)
    found = decode(tmp_path / "a.png", 10)[0].numpy().astype(int)
    np.testing.assert_allclose(found[1:-1, 1:-1], wanted[1:-1, 1:-1], atol=2)
    np.testing.assert_allclose(found, wanted, atol=20)  # past the crop there is nothing to blend


def test_fine_detail_is_averaged_and_not_picked(tmp_path: Path) -> None:
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype("uint8")
    Image.fromarray(board).save(tmp_path / "a.png")
    found = decode(tmp_path / "a.png", 8)
    assert 120 <= int(found.min()) <= int(found.max()) <= 135


def test_a_large_jpeg_decoded_at_a_smaller_scale_looks_the_same(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:512, :600]
    values = (128 + 60 * np.sin(rows / 50) + 60 * np.cos(columns / 70)).astype("uint8")
    Image.fromarray(values).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(values).save(tmp_path / "a.png")
    found, wanted = decode(tmp_path / "a.jpg", 32).int(), decode(tmp_path / "a.png", 32).int()
    torch.testing.assert_close(found, wanted, atol=4, rtol=0)


def test_a_thin_strip_is_cropped_before_it_is_scaled(tmp_path: Path) -> None:
    Image.new("L", (60_000, 1), 9).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png", 64).unique().tolist() == [9]


def test_the_limit_against_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("L", (12, 12), 9).save(tmp_path / "large.png")
    Image.new("L", (15, 15), 9).save(tmp_path / "bomb.png")
    with without_warnings():
        assert decode(tmp_path / "large.png", 6).unique().tolist() == [9]
    with pytest.raises(ValueError, match="more than 200 pixels"):
        decode(tmp_path / "bomb.png", 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        listing = Listing(["large.png"], [0], None, ("x",))
        assert load(tmp_path, listing, 6).images.unique().tolist() == [9]


def test_suffixes_are_those_of_images_that_can_be_read() -> None:
    assert {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp"} <= suffixes()
    assert not {".pdf", ".eps", ".h5", ".txt", ".csv", ""} & suffixes()


def spoil(folder: Path) -> dict[str, str]:
    """Make damaged files; return what has to be said of each."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype="uint8")
    for name in ("cut.png", "cut.jpg"):
        Image.fromarray(noise).save(folder / name)
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("not an image")
    (folder / "folder.png").mkdir()
    (folder / "link.png").symlink_to(folder / "gone.png")
    Image.fromarray(np.full((4, 4), np.nan, "float32")).save(folder / "nan.tif")
    return {
        "cut.png": "truncated",
        "cut.jpg": "truncated",
        "empty.png": "is empty",
        "text.jpg": "is no image",
        "folder.png": "is a folder",
        "link.png": "no such file",
        "missing.png": "no such file",
        "nan.tif": "not finite",
    }


def test_a_damaged_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    for name, reason in spoil(tmp_path).items():
        with pytest.raises(ValueError, match=reason):
            decode(tmp_path / name, 8)


def test_a_file_that_may_not_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain("L", 0).save(tmp_path / "a.png")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ValueError, match=r"cannot be read \(Permission denied\)"):
        decode(tmp_path / "a.png", 8)


def test_a_name_that_no_report_could_show_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not UTF-8"):
        decode(tmp_path / "a\udcff.png", 8)


def listed(folder: Path, n: int, bias: bool = True) -> Listing:
    """n whole images, all of another grey, of classes in turn."""
    for number in range(n):
        plain("L", number).save(folder / f"{number}.png")
    names, targets = [f"{number}.png" for number in range(n)], [x % 2 for x in range(n)]
    return Listing(names, targets, targets[::-1] if bias else None, ("cat", "dog"))


def test_images_are_loaded_in_order(tmp_path: Path) -> None:
    listing = listed(tmp_path, 60)
    found = load(tmp_path, listing, 4)
    assert found.images[:, 0, 0, 0].tolist() == list(range(60))
    assert found.paths == tuple(listing.paths)
    assert found.targets.tolist() == listing.targets
    assert found.bias is not None
    assert found.bias.tolist() == listing.bias
    assert torch.equal(found.images, load(tmp_path, listing, 4).images)


def test_without_annotations_there_is_no_bias(tmp_path: Path) -> None:
    assert load(tmp_path, listed(tmp_path, 4, bias=False), 4).bias is None


def test_one_report_names_what_is_damaged_in_all_splits(tmp_path: Path) -> None:
    whole = listed(tmp_path, 10)
    reasons = spoil(tmp_path)
    train, test = list(reasons)[:4], list(reasons)[4:]
    listing = Listing([*whole.paths, *train], [*whole.targets, 0, 1, 0, 1], None, whole.classes)
    beside = Listing([*test], [0] * len(test), None, whole.classes)
    with pytest.raises(ValueError, match="8 of 18 images cannot be read") as caught:
        load(tmp_path, listing, 4, beside=[beside])
    for name, reason in reasons.items():
        assert f"  {name}: " in str(caught.value)
        assert reason in str(caught.value)
    assert str(caught.value).endswith("`damaged: skip` (--data.damaged skip).")


def test_a_long_report_is_cut(tmp_path: Path) -> None:
    listing = Listing([f"{number}.png" for number in range(1030)], [0] * 1030, None, ("x",))
    with pytest.raises(ValueError, match="1,030 of 1,030") as caught:
        load(tmp_path, listing, 4)
    lines = str(caught.value).splitlines()
    assert lines[1] == "  0.png: there is no such file"
    assert lines[20:22] == ["  19.png: there is no such file", "  and 1,010 more"]
    assert len(lines) == 23


def test_damaged_images_are_left_out_if_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = listed(tmp_path, 10)
    for number in (3, 6):
        (tmp_path / f"{number}.png").write_bytes(b"")
    found = load(tmp_path, listing, 4, "skip")
    kept = [x for x in range(10) if x not in (3, 6)]
    assert found.images[:, 0, 0, 0].tolist() == kept
    assert found.targets.tolist() == [x % 2 for x in kept]
    assert found.bias is not None
    assert found.bias.tolist() == [1 - x % 2 for x in kept]
    assert found.paths == tuple(f"{x}.png" for x in kept)
    error = capsys.readouterr().err
    assert "2 of 10 images cannot be read:" in error
    assert "  3.png: is empty\n  6.png: is empty\nThey are left out." in error


def test_too_many_damaged_images_are_refused_all_the_same(tmp_path: Path) -> None:
    listing = listed(tmp_path, 10)
    for number in range(6):
        (tmp_path / f"{number}.png").unlink()
    with pytest.raises(ValueError, match="more than half"):
        load(tmp_path, listing, 4, "skip")


def test_a_class_without_images_left_is_refused(tmp_path: Path) -> None:
    listing = listed(tmp_path, 10)
    for number in range(1, 10, 2):
        (tmp_path / f"{number}.png").unlink()
    with pytest.raises(ValueError, match="no image is left of 'dog'"):
        load(tmp_path, listing, 4, "skip")


def test_what_does_not_fit_into_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_available_memory", lambda: 2_000_000_000)
    listing = Listing(["x.png"] * 20_000, [0] * 20_000, None, ("x",))
    text = r"20,000 images of 224 x 224 pixels need 3\.0 GB of memory, but 2\.0 GB .*--data\.size"
    with pytest.raises(ValueError, match=text):
        load(tmp_path, listing, 224)


def test_the_memory_of_this_machine_is_known() -> None:
    assert 2**24 < files._available_memory() < 2**50


@pytest.mark.parametrize(
    ("size", "damaged", "text"),
    [(0, "refuse", "size is 0"), (8, "maybe", "damaged is 'maybe', expected 'refuse' or 'skip'")],
)
def test_arguments_out_of_range(tmp_path: Path, size: int, damaged: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        load(tmp_path, Listing([], [], None, ("x",)), size, damaged)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_bar_is_drawn_on_a_terminal_alone(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,
) -> None:
    monkeypatch.setattr(files, "LONG", 3)
    monkeypatch.setenv("TTY_INTERACTIVE", str(int(terminal)))
    load(tmp_path, listed(tmp_path, 4), 4)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("reading images" in captured.err) == terminal


def test_pillow_and_the_reference_of_these_tests_agree_on_fit(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype="uint8")
    Image.fromarray(values).save(tmp_path / "a.png")
    wanted = ImageOps.fit(Image.fromarray(values), (10, 10), Image.Resampling.BILINEAR)
    found = decode(tmp_path / "a.png", 10).permute(1, 2, 0).numpy().astype(int)
    np.testing.assert_allclose(found, np.asarray(wanted, dtype=int), atol=2)
