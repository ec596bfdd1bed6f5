"""Copies of conflicting rows: what is copied, how it is varied, and what it weighs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from online_debias.callbacks.inputs.copies import Copies
from online_debias.engine import Batch, Callback, Engine
from online_debias.functional.inputs.augment import autocontrast, mild, strong, warp
from online_debias.functional.inputs.copy_slots import fill_slots, n_slots
from tests.no_sync import NoSync

N, B = 64, 32
Augment = Literal["modad", "mild"]
LOW, HIGH = torch.tensor(-0.5), torch.tensor(0.5)


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(n: int, height: int = 16, width: int = 16) -> Tensor:
    """Images without detail, which survive interpolation."""
    coarse = torch.rand(n, 3, 4, 4, generator=stream(0)) - 0.5
    return nn.functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)


# Warping.


def warped(
    images: Tensor,
    angle: float = 0.0,
    zoom: float = 1.0,
    shift: tuple[float, float] = (0.0, 0.0),
    flip: bool = False,
) -> Tensor:
    n = len(images)
    return warp(
        images,
        torch.full((n,), angle),
        torch.full((n,), zoom),
        torch.tensor(shift).expand(n, 2),
        torch.full((n,), flip),
    )


def test_nothing_changes_an_image_by_nothing() -> None:
    torch.testing.assert_close(warped(smooth(2)), smooth(2))


def test_a_quarter_turn_is_counterclockwise() -> None:
    images = smooth(2)
    turned = warped(images, angle=math.pi / 2)
    torch.testing.assert_close(turned, images.rot90(1, (2, 3)), atol=1e-5, rtol=0)


def test_an_image_is_turned_upside_down_before_it_is_rotated() -> None:
    images = smooth(2)
    torch.testing.assert_close(warped(images, flip=True), images.flip(2), atol=1e-5, rtol=0)
    turned = warped(images, angle=math.pi / 2, flip=True)
    torch.testing.assert_close(turned, images.flip(2).rot90(1, (2, 3)), atol=1e-5, rtol=0)


def test_zoom_shows_the_middle_as_cropping_and_resizing_does() -> None:
    images = smooth(2)
    middle = images[:, :, 4:12, 4:12]
    resized = nn.functional.interpolate(middle, scale_factor=2.0, mode="bilinear")
    inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))  # resizing repeats the edge
    torch.testing.assert_close(warped(images, zoom=2.0)[inside], resized[inside])


def test_a_shift_moves_right_and_down() -> None:
    images = smooth(2)
    moved = warped(images, shift=(2 / 16, 4 / 16))
    torch.testing.assert_close(moved[:, :, 4:, 2:], images[:, :, :-4, :-2], atol=1e-5, rtol=0)
    mirrored = images[:, :, :4, :-2].flip(2)  # what comes in from above
    torch.testing.assert_close(moved[:, :, :4, 2:], mirrored, atol=1e-5, rtol=0)


def test_a_rotation_keeps_shapes_in_images_that_are_not_square() -> None:
    """A disc stays a disc."""
    y, x = torch.meshgrid(torch.arange(32) - 15.5, torch.arange(64) - 31.5, indexing="ij")
    disc = (6 - (x**2 + y**2).sqrt()).sigmoid()[None, None]
    middle = (..., slice(16, 48))  # further out one sees the reflection
    torch.testing.assert_close(warped(disc, angle=1.0)[middle], disc[middle], atol=0.03, rtol=0)


def test_each_image_is_rotated_by_its_own_angle() -> None:
    images = smooth(3)
    angle = torch.tensor([0.0, math.pi / 2, math.pi])
    turned = warp(images, angle, torch.ones(3), torch.zeros(3, 2), torch.zeros(3).bool())
    for quarter in range(3):
        expected = images[quarter].rot90(quarter, (1, 2))
        torch.testing.assert_close(turned[quarter], expected, atol=1e-5, rtol=0)


# Contrast.


def test_autocontrast_stretches_each_channel_of_each_image() -> None:
    images = 0.3 * smooth(3)
    stretched = autocontrast(images, LOW, HIGH)
    for image, result in zip(images.flatten(0, 1), stretched.flatten(0, 1), strict=True):
        expected = (image - image.min()) / (image.max() - image.min()) - 0.5
        torch.testing.assert_close(result, expected)


def test_autocontrast_has_a_range_for_each_channel() -> None:
    low, high = torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([1.0, 2.0, 3.0])
    stretched = autocontrast(smooth(2), low, high)
    torch.testing.assert_close(stretched.amin((2, 3)), low.expand(2, 3))
    torch.testing.assert_close(stretched.amax((2, 3)), high.expand(2, 3))


def test_autocontrast_leaves_plain_channels_alone() -> None:
    plain = 0.2 + 1e-6 * torch.rand(1, 3, 8, 8, generator=stream(0))
    assert torch.equal(autocontrast(plain, LOW, HIGH), plain)


# The two ways.


def test_strong_does_one_of_three_things() -> None:
    n = 300
    images = smooth(1).expand(n, -1, -1, -1) * 0.5
    kind = torch.arange(n) % 3
    varied = strong(images, kind, LOW, HIGH, stream(1))
    zoomed = warped(images[:1], zoom=2.0)
    torch.testing.assert_close(varied[kind == 2], zoomed.expand(n // 3, -1, -1, -1))
    full = (varied.amax((2, 3)) - varied.amin((2, 3))).sub(1).abs().amax(1) < 1e-4
    assert not full[kind != 1].any()
    assert full[kind == 1].float().mean().item() == pytest.approx(0.5, abs=0.15)
    turned = varied[kind == 0]
    assert len({round(x, 4) for x in turned[:, 0, 0, 0].tolist()}) > 20  # angles of their own
    # An image's corners, in order around it: a rotation keeps the sense, a reflection turns it.
    target = images[:1] - images[:1].mean((2, 3), keepdim=True)
    angles = torch.arange(72) * (math.pi / 36)
    best = []
    for flip in (False, True):
        candidates = torch.cat([warped(target, float(a), flip=flip) for a in angles])
        disc = _disc(candidates)
        best.append((_disc(turned - images[:1].mean((2, 3), keepdim=True)) @ disc.T).amax(1))
    assert (best[1] > best[0]).float().mean().item() == pytest.approx(0.5, abs=0.15)


def _disc(images: Tensor) -> Tensor:
    """The part of an image that rotations keep inside, flat, of length 1."""
    y, x = torch.meshgrid(torch.arange(16) - 7.5, torch.arange(16) - 7.5, indexing="ij")
    flat = (images * (x**2 + y**2 < 60)).flatten(1)
    return flat / flat.norm(dim=1, keepdim=True)


def test_mild_turns_zooms_and_shifts_a_little() -> None:
    """Two spots, one in the middle and one 8 pixels to its right, say what was done."""
    y, x = torch.meshgrid(torch.arange(33) - 16.0, torch.arange(33) - 16.0, indexing="ij")
    spots = torch.stack([torch.exp(-((x - at) ** 2 + y**2) / 4) for at in (0, 8)])
    varied = mild(spots.expand(400, -1, -1, -1), stream(1))
    mass = varied.sum((2, 3))
    place = torch.stack([(varied * x).sum((2, 3)), (varied * y).sum((2, 3))], 2) / mass[..., None]
    shift, arm = place[:, 0] / 33, place[:, 1] - place[:, 0]
    degrees = torch.rad2deg(torch.atan2(-arm[:, 1], arm[:, 0]))  # y points down
    zoom = arm.norm(dim=1) / 8
    for value, middle, most in (
        (shift[:, 0], 0, 0.1), (shift[:, 1], 0, 0.1), (degrees, 0, 15), (zoom, 1, 0.1)
    ):  # fmt: skip
        away = (value - middle) / most
        assert away.abs().max() < 1.03  # the spots are found to a fraction of a pixel
        assert away.min() < -0.9 and away.max() > 0.9


# Slots.


@pytest.mark.parametrize(
    ("rows", "capacity", "expected"),
    [(128, 0.25, 32), (100, 0.25, 24), (32, 0.01, 8), (8, 0.25, 8), (7, 1.0, 0), (64, 3.0, 192)],
)
def test_the_number_of_slots_is_a_multiple_of_eight(
    rows: int, capacity: float, expected: int
) -> None:
    assert n_slots(rows, capacity) == expected


def fill_loops(score: list[float], flagged: list[bool], k: int, copies: int) -> list[int]:
    """Rows of the used slots."""
    ranked = sorted((row for row in range(len(score)) if flagged[row]), key=lambda r: -score[r])
    return (ranked * copies)[:k]


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.9])
def test_slots_hold_flagged_rows_by_score_round_after_round(share: float) -> None:
    score = torch.rand(B, generator=stream(0)).mul(8).round() / 8  # with ties
    flagged = torch.rand(B, generator=stream(1)) < share
    row, kind, used = fill_slots(torch.where(flagged, score, math.nan), flagged, 16, 3)
    expected = fill_loops(score.tolist(), flagged.tolist(), 16, 3)
    assert row[used].tolist() == expected
    assert used.tolist() == [slot < len(expected) for slot in range(16)]
    for own in set(expected):
        kinds = (kind[used & (row == own)] % 3).tolist()
        assert len(set(kinds)) == len(kinds)  # no variation twice
    spare = row[~used].tolist()
    assert len(set(spare)) == len(spare) and not flagged[row[~used]].any()
    if len(expected) == 16:
        assert set((kind % 3).tolist()) == {0, 1, 2}


# In a run.


class Scores(Callback):
    """Publishes chosen scores."""

    provides = ("conflict",)

    def __init__(self, score: Tensor) -> None:
        super().__init__()
        self.score = score

    def on_features(self, batch: Batch) -> None:
        batch.publish("conflict", self.score[batch.index].masked_fill(batch.mixed, 0))


IMAGES = (torch.rand(N, 3, 8, 8, generator=stream(2)) - 0.5).contiguous(
    memory_format=torch.channels_last
)
TARGETS = torch.arange(N) % 2
SCORE = torch.where(torch.arange(N) % 10 == 3, 0.9, 0.2)
ROWS = torch.arange(B)


def build(*callbacks: Callback, score: Tensor = SCORE) -> tuple[Engine, nn.Module]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    return Engine(net, [*callbacks, Scores(score)], n_samples=N, n_classes=2), net


def step(
    engine: Engine, net: nn.Module, rows: Tensor = ROWS, images: Tensor = IMAGES
) -> tuple[Batch, Tensor]:
    batch = engine.start_step(rows, images[rows], TARGETS[rows])
    loss = engine.loss(batch, net(batch.inputs))
    engine.end_step(batch)
    return batch, loss


def test_before_scores_are_known_nothing_but_slots_is_added() -> None:
    engine, net = build(Copies())
    batch, loss = step(engine, net)
    assert len(batch) == B + 8 and batch.mixed.tolist() == [False] * B + [True] * 8
    assert torch.equal(batch.inputs[B:], IMAGES[batch.index[B:]])  # plain images
    assert batch.factors["copies"].tolist() == [1.0] * B + [0.0] * 8
    assert batch.losses is not None
    torch.testing.assert_close(loss, batch.losses[:B].mean())


@pytest.mark.parametrize("augment", ["modad", "mild"])
def test_rows_with_high_remembered_scores_are_copied(augment: Augment) -> None:
    engine, net = build(Copies(copies=2, augment=augment))
    step(engine, net)
    batch, loss = step(engine, net)
    flagged = [3, 13, 23]
    used = 6
    assert batch.index[B : B + used].tolist() == flagged * 2
    assert torch.equal(batch.targets[B:], TARGETS[batch.index[B:]])
    assert torch.equal(batch.inputs[:B], IMAGES[:B])
    for slot in range(B, B + used):
        assert not torch.allclose(batch.inputs[slot], IMAGES[batch.index[slot]], atol=1e-3)
    for own in range(3):
        assert not torch.allclose(batch.inputs[B + own], batch.inputs[B + 3 + own], atol=1e-3)
    assert torch.equal(batch.inputs[B + used :], IMAGES[batch.index[B + used :]])
    assert batch.factors["copies"].tolist() == [1.0] * (B + used) + [0.0] * 2
    assert batch.losses is not None
    torch.testing.assert_close(loss, batch.losses[: B + used].mean())


def test_copies_follow_the_threshold() -> None:
    engine, net = build(Copies(copies=1, threshold=0.95))
    for _ in range(2):
        batch, _ = step(engine, net)
    assert batch.factors["copies"][B:].sum() == 0
    engine, net = build(Copies(copies=1, threshold=0.1))
    for _ in range(2):
        batch, _ = step(engine, net)
    assert batch.factors["copies"][B:].sum() == 8


class Mixes(Callback):
    """Marks every row as mixed; its name puts it before `Copies`."""

    def __init__(self) -> None:
        super().__init__("a")
        self.at_work = False

    def on_batch(self, batch: Batch) -> None:
        if self.at_work:
            batch.mixed = torch.ones_like(batch.mixed)


def test_mixed_rows_are_neither_copied_nor_remembered() -> None:
    engine, net = build(Copies(), mixes := Mixes())
    step(engine, net)
    remembered = engine.run.samples.values("conflict").clone()
    torch.testing.assert_close(remembered[:B], SCORE[:B])
    mixes.at_work = True
    batch, _ = step(engine, net)
    assert batch.factors["copies"][B:].sum() == 0
    assert torch.equal(engine.run.samples.values("conflict")[:B], remembered[:B])
    mixes.at_work = False
    batch, _ = step(engine, net)
    assert batch.factors["copies"][B:].sum() == 8  # of their rows' scores, not of copies' 0


class Appends(Callback):
    """Appends other rows after `Copies`."""

    input_turn = "append"

    def __init__(self) -> None:
        super().__init__("z")

    def on_batch(self, batch: Batch) -> None:
        batch.append(torch.arange(4), batch.inputs[:4])


def test_rows_that_others_append_keep_their_weight() -> None:
    engine, net = build(Copies(), Appends())
    batch, _ = step(engine, net)
    assert batch.factors["copies"].tolist() == [1.0] * B + [0.0] * 8 + [1.0] * 4


def test_the_memory_format_is_kept() -> None:
    engine, net = build(Copies())
    for augment in ("modad", "mild"):
        engine, net = build(Copies(augment=augment))
        for _ in range(2):
            batch, _ = step(engine, net)
        assert batch.inputs.is_contiguous(memory_format=torch.channels_last)
        engine, net = build(Copies(augment=augment))
        batch, _ = step(engine, net, images=IMAGES.contiguous())
        assert batch.inputs.is_contiguous()


def test_a_batch_too_small_for_slots_stays_as_it_is() -> None:
    engine, net = build(Copies())
    batch, loss = step(engine, net, torch.arange(7))
    assert len(batch) == 7 and batch.losses is not None
    torch.testing.assert_close(loss, batch.losses.mean())


@pytest.mark.parametrize("augment", ["modad", "mild"])
def test_copies_are_drawn_from_the_run_s_own_stream(augment: Augment) -> None:
    found = []
    for seed in (1, 2):
        engine, net = build(Copies(augment=augment))
        step(engine, net)
        torch.manual_seed(seed)
        found.append(step(engine, net)[0].inputs)
    assert torch.equal(*found)
    other = step(engine, net)[0].inputs
    assert not torch.equal(found[0], other)  # another step, other angles


@pytest.mark.parametrize("augment", ["modad", "mild"])
def test_no_step_waits_for_the_device(augment: Augment) -> None:
    engine, net = build(Copies(augment=augment))
    with NoSync():
        for _ in range(2):
            step(engine, net)


def test_inputs_that_are_no_images_are_refused() -> None:
    engine, _ = build(Copies())
    with pytest.raises(ValueError, match=r"inputs have shape \(32, 5\), expected images of shape"):
        engine.start_step(ROWS, torch.zeros(B, 5), TARGETS[ROWS])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Copies(copies=0), "Copies: copies is 0, expected a whole number >= 1"),
        (lambda: Copies(capacity=0.0), "capacity is 0.0, expected 0 < capacity <= 3"),
        (lambda: Copies(copies=1, capacity=1.5), "capacity is 1.5, expected 0 < capacity <= 1"),
        (lambda: Copies(augment="wild"), "augment is 'wild', expected 'modad' or 'mild'"),  # type: ignore[arg-type]
        (lambda: Copies(threshold=1.0), "threshold is 1.0, expected 0 <= threshold < 1"),
    ],
)
def test_arguments_out_of_range_are_refused(make: Callable[[], Callback], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
