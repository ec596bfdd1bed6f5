"""Telling a part of the image that shows another thing from one that is merely hard to read."""

from __future__ import annotations

import copy
from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor

from online_debias.detectors import PartViews
from online_debias.functional.shortcut.confirmation import confirmation
from online_debias.functional.shortcut.evenness import evenness
from tests.no_sync import NoSync

torch.set_num_threads(1)
CHANNELS, SIDE, CLASSES = 8, 6, 8
LEFT, RIGHT = slice(0, 3), slice(3, 6)


def make(n_classes: int = CLASSES, **settings: object) -> PartViews:
    parts = PartViews(**{"fold": 128, "least": 40, **settings})  # type: ignore[arg-type]
    parts.setup(CHANNELS * SIDE**2, n_classes, "cpu", seed=0)
    return parts


def neighbour(targets: Tensor, share: float, stream: torch.Generator) -> Tensor:
    """Classes as an observer sees them who takes some of the images for the class beside theirs."""
    errs = torch.rand(len(targets), generator=stream) < share
    return torch.where(errs, targets ^ 1, targets)


def other(targets: Tensor, share: float, stream: torch.Generator) -> Tensor:
    """Classes, and in a share of the rows any other class alike."""
    shift = torch.randint(1, CLASSES, (len(targets),), generator=stream)
    return torch.where(
        torch.rand(len(targets), generator=stream) < share, (targets + shift) % CLASSES, targets
    )


def drawn(kind: str, rows: int = 8000, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Maps of 6x6 places, labels, and which rows are bias-conflicting.

    - "bias": the left half shows another thing, which is that of the class in 94 % of the rows; the
      right half shows the class, a tenth of it ambiguous.
    - "hard": both halves show the class, the same ambiguous tenth in both.
    - "noise": both halves show the class, but 6 % of the labels are wrong.
    """
    stream = torch.Generator().manual_seed(seed)
    targets = torch.randint(CLASSES, (rows,), generator=stream)
    shown = neighbour(targets, 0.1, stream)
    left = other(targets, 0.06, stream) if kind == "bias" else shown
    labels = other(targets, 0.06, stream) if kind == "noise" else targets
    maps = torch.randn(rows, CHANNELS, SIDE, SIDE, generator=stream)
    for half, seen in ((LEFT, left), (RIGHT, shown)):
        maps[:, :, :, half] += 2.0 * F.one_hot(seen, CHANNELS)[:, :, None, None]
    return maps.flatten(1), labels, (left != labels) & (kind == "bias")


def feed(parts: PartViews, x: Tensor, y: Tensor, size: int = 100) -> Tensor:
    scores = [
        parts.step(x[rows], y[rows], torch.ones(len(rows)))[0]
        for rows in torch.arange(len(x)).split(size)
    ]
    return torch.cat(scores)


def slow_evenness(counts: Tensor, others: int) -> float:
    """Pairs of rows of one class, one by one."""
    chances, sizes = [], []
    for row in counts.tolist():
        rows = [column for column, n in enumerate(row) for _ in range(int(n))]
        pairs = list(combinations(rows, 2))
        if pairs:
            chances.append(sum(a == b for a, b in pairs) / len(pairs))
            sizes.append(len(rows))
    total = sum(sizes)
    if not total:
        return 0.0
    mean = sum(c * n for c, n in zip(chances, sizes, strict=True)) / total
    return 1 / max(mean, 1 / (total * (total - 1))) / others


@pytest.mark.parametrize("seed", range(4))
def test_evenness_counts_pairs_that_are_taken_for_the_same(seed: int) -> None:
    stream = torch.Generator().manual_seed(seed)
    counts = torch.randint(0, 4, (3, 5, 5), generator=stream).float()
    counts[0, 1] = 0
    counts[0, 2] = torch.tensor([1.0, 0, 0, 0, 0])
    expected = [slow_evenness(one, others=4) for one in counts]
    torch.testing.assert_close(evenness(counts, others=4), torch.tensor(expected))


@pytest.mark.parametrize("counts", [[[0.0, 0.0]], [[1.0, 0.0]], [[1.0, 1.0]]])
def test_evenness_of_hardly_any_rows(counts: list[list[float]]) -> None:
    found = evenness(torch.tensor(counts), others=2)
    assert float(found) == pytest.approx(slow_evenness(torch.tensor(counts), others=2))
    assert found.isfinite()


def test_evenness_does_not_depend_on_how_many_rows_there_are() -> None:
    stream = torch.Generator().manual_seed(0)
    means = []
    for rows in (4, 40):
        taken = torch.randint(9, (500, 10, rows), generator=stream)
        counts = F.one_hot(taken, 9).sum(2).float()
        alike = (counts * (counts - 1)).sum((1, 2)) / (10 * rows * (rows - 1))
        means.append(float(alike.mean()))  # what evenness takes one over
        assert float(evenness(counts, 9).median()) == pytest.approx(1, abs=0.1)
    assert means == pytest.approx([1 / 9, 1 / 9], rel=0.05)


def test_confirmation_against_one_view_after_the_other() -> None:
    stream = torch.Generator().manual_seed(0)
    rows, views, classes = 400, 3, 4
    right = torch.rand(rows, views, generator=stream) < torch.tensor([0.9, 0.6, 0.26])
    contradicts = ~right & (torch.rand(rows, views, generator=stream) < 0.7)
    found = confirmation(
        contradicts.float().T @ right.float(),
        contradicts.sum(0).float(),
        right.float().mean(0),
        classes,
    )
    for view in range(views):
        best = 0.0
        for judge in range(views):
            everywhere = (right[:, judge].float().mean() - 0.25) / 0.75
            there = (right[contradicts[:, view], judge].float().mean() - 0.25) / 0.75
            if everywhere >= 0.1:  # the third view tells too little to confirm anything
                best = max(best, float(there / everywhere))
        assert float(found[view]) == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("seed", range(2))
def test_a_part_that_shows_another_thing_is_found_and_scored_by(seed: int) -> None:
    parts = make()
    x, y, conflicting = drawn("bias", seed=seed)
    assert not feed(parts, x, y).any() and not parts.ready
    evidence = parts.part_evidence
    torch.testing.assert_close(parts.evidence, evidence.sort().values[-2:].mean())
    assert parts.choose() and not parts.ready
    assert evidence.argmax() in (0, 2, 4, 7, 10) and evidence.max() > 0.75
    assert set(parts.parts) <= {0, 2, 4, 7, 10} and parts.place.endswith("left")  # left cells
    assert parts.parts[0] == evidence.argmax()
    assert not any(True for _ in parts.forest.buffers())  # given back
    scores = feed(parts, x, y)
    assert parts.ready and not scores[:100].any()  # a window is learned first
    scores, conflicting = scores[1000:], conflicting[1000:]
    assert roc_auc_score(conflicting, scores) > 0.97
    assert ((scores > 0.5) == conflicting).float().mean() > 0.97
    assert parts.choose()  # it stays so, whatever is asked again


def test_of_wide_features_a_sketch_is_judged_and_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("online_debias.detectors.views.part_views._WIDEST", 6)
    parts, loaded = make(), make()
    x, y, conflicting = drawn("bias")
    feed(parts, x, y)
    assert parts.choose() and parts.part_detector.n_features == 6
    scores = feed(parts, x[:6000], y[:6000])
    assert roc_auc_score(conflicting[1000:6000], scores[1000:]) > 0.95
    loaded.load_state_dict(copy.deepcopy(parts.state_dict()))
    assert torch.equal(feed(loaded, x[6000:], y[6000:]), feed(parts, x[6000:], y[6000:]))


@pytest.mark.parametrize("kind", ["hard", "noise"])
@pytest.mark.parametrize("seed", range(2))
def test_hard_images_and_wrong_labels_are_no_part(kind: str, seed: int) -> None:
    parts = make()
    x, y, _ = drawn(kind, seed=seed)
    feed(parts, x, y)
    assert parts.tallies.contradicted.min() > 40  # there was something to judge by
    assert parts.evidence < 0.45
    assert not parts.choose() and not parts.ready
    assert not feed(parts, x, y).any()


def test_a_part_that_tells_nothing_or_never_contradicts_is_not_chosen() -> None:
    x, y, _ = drawn("bias")
    blind = make(tells=0.99)
    feed(blind, x, y)
    assert not blind.evidence.any() and not blind.choose()
    patient = make(least=5000)
    feed(patient, x, y)
    assert not patient.evidence.any() and not patient.choose()


def test_counting_goes_on_until_there_is_enough_to_judge_by() -> None:
    """Many short rounds are as good as a long one."""
    x, y, _ = drawn("bias")
    parts, rounds = make(), []
    for rows in torch.arange(len(x)).split(1000):
        feed(parts, x[rows], y[rows])
        enough = parts.tallies.contradicted.min() >= parts.least
        parts.choose()
        assert bool(parts.tallies.seen.any()) is not bool(enough)
        rounds.append(bool(enough))
        if parts.chosen:
            break
    assert parts.chosen and rounds[0] is False and len(rounds) > 1


def test_a_part_with_enough_evidence_does_not_wait_for_the_others() -> None:
    """A network that knows its images by heart contradicts few of them in the other parts."""
    x, y, _ = drawn("bias")
    parts = make()
    feed(parts, x, y)
    right = 1  # the top right quarter, which shows the class
    parts.tallies.contradicted[right] = parts.least - 1
    assert not parts.part_evidence[right]
    assert parts.choose() and right not in parts.parts
    assert not parts.tallies.seen.any()


def test_one_part_alone_is_not_believed() -> None:
    """Each place is in a cell of either grid; of many parts one may look even by chance."""
    x, y, _ = drawn("bias")
    parts = make()
    feed(parts, x, y)
    best = parts.part_evidence.argmax()
    parts.tallies.contradicted[torch.arange(parts.n_views) != best] = 0
    torch.testing.assert_close(parts.evidence, parts.part_evidence[best] / 2)
    assert not parts.choose()


def test_of_one_grid_one_part_is_enough() -> None:
    x, y, _ = drawn("bias")
    parts = PartViews(grids=(2,), fold=128, least=40)
    parts.setup(CHANNELS * 2**2, CLASSES, "cpu", seed=0)
    feed(parts, F.avg_pool2d(x.view(-1, CHANNELS, SIDE, SIDE), 3).flatten(1), y)
    assert torch.equal(parts.evidence, parts.part_evidence.max()) and parts.choose()


def test_of_four_classes_nothing_is_said() -> None:
    parts = make(n_classes=4)
    x, y, _ = drawn("bias")
    feed(parts, x, y % 4)
    assert not parts.evidence.any() and not parts.choose()


def slow_counts(parts: PartViews, each: Tensor, y: Tensor, mass: Tensor) -> dict[str, Tensor]:
    """What the parts told of a batch, row by row."""
    views, classes, tallies = parts.n_views, parts.n_classes, parts.tallies
    shapes = {name: getattr(tallies, name).shape for name in ("right", "taken", "contradicted")}
    found = {name: torch.zeros(shape) for name, shape in shapes.items()}
    found["seen"], found["confirmed"] = torch.zeros(classes), torch.zeros(views, views)
    found["sure"] = torch.zeros(2, views, classes)
    for row, label in enumerate(y.tolist()):
        found["seen"][label] += mass[row]
        says = each[row].argmax(1).tolist()
        for view, seen in enumerate(says):
            confidence = each[row, view, seen]
            if seen == label:
                found["right"][view, label] += mass[row]
                found["sure"][:, view, seen] += mass[row] * torch.tensor([float(confidence), 1.0])
            usual = tallies.sure[0, view, seen] / tallies.sure[1, view, seen].clamp_min(1e-12)
            if 2 * each[row, view, label] < confidence and confidence >= usual:
                found["contradicted"][view] += mass[row]
                found["taken"][view, label, seen] += mass[row]
                for judge, told in enumerate(says):
                    found["confirmed"][view, judge] += mass[row] * (told == label)
    return found


def test_counts_against_row_by_row() -> None:
    parts = make(fold=256)
    x, y, _ = drawn("bias", rows=1200)
    feed(parts, x[:1100], y[:1100])  # ends in a window
    before = {name: value.clone() for name, value in parts.tallies.named_buffers()}
    each = parts.forest.block_posteriors(parts._views(x[1100:]))
    mass = torch.rand(100, generator=torch.Generator().manual_seed(0))
    expected = slow_counts(parts, each, y[1100:], mass)
    parts.step(x[1100:], y[1100:], mass)  # in which this one is, too
    for name, value in expected.items():
        counted = getattr(parts.tallies, f"open_{name}") - before[f"open_{name}"]
        torch.testing.assert_close(counted, value, rtol=1e-4, atol=1e-3)
        assert torch.equal(getattr(parts.tallies, name), before[name])
    assert expected["contradicted"].sum() > 0 and before["open_seen"].sum() > 0


def test_a_row_without_mass_teaches_nothing() -> None:
    parts, other_parts = make(fold=512), make(fold=512)
    x, y, _ = drawn("bias", rows=1200)
    feed(parts, x[:1000], y[:1000])  # ends in a window
    feed(other_parts, x[:1000], y[:1000])
    parts.step(x[1000:], y[1000:], torch.zeros(200))
    for one, two in zip(parts.buffers(), other_parts.buffers(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("chosen", [False, True])
def test_state_comes_back(chosen: bool, before: bool) -> None:
    """Also into a detector that chose parts of its own before."""
    x, y, _ = drawn("bias", rows=6000)
    parts, loaded = make(), make()
    feed(parts, x[:5000], y[:5000])
    if before:
        loaded.load_state_dict(copy.deepcopy(parts.state_dict()))
        assert loaded.choose()
    assert not chosen or parts.choose()
    loaded.load_state_dict(copy.deepcopy(parts.state_dict()))
    assert torch.equal(feed(loaded, x[5000:], y[5000:]), feed(parts, x[5000:], y[5000:]))
    assert torch.equal(loaded.evidence, parts.evidence) and loaded.chosen is chosen


def test_a_step_waits_for_nothing() -> None:
    x, y, _ = drawn("bias")
    parts = make()
    with NoSync():
        feed(parts, x, y)
    assert parts.choose()
    with NoSync():
        feed(parts, x, y)


@pytest.mark.parametrize(
    ("rows", "columns", "place"),
    [((0, 3), (0, 6), "top"), ((3, 6), (3, 6), "bottom right"), ((0, 6), (0, 6), "middle"),
     ((2, 4), (4, 6), "right")],
)  # fmt: skip
def test_the_place_of_a_part_has_a_name(
    rows: tuple[int, int], columns: tuple[int, int], place: str
) -> None:
    parts = make()
    share = torch.zeros(SIDE, SIDE)
    share[slice(*rows), slice(*columns)] = 1
    parts.cells = (share / share.sum()).view(-1, 1)
    assert parts.place == place


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"grids": (1, 2)}, r"grids is \[1, 2\], but must be rising sides from 2 on"),
        ({"grids": ()}, r"grids is \[\], but must be rising"),
        ({"threshold": 1.0}, "threshold is 1.0, but must be between 0 and 1"),
        ({"tells": 0.0}, "tells is 0.0, but must be between 0 and 1"),
        ({"margin": -1.0}, "margin is -1.0, but must be between 0 and 1"),
        ({"least": 0}, "least is 0, but must be at least 1"),
        ({"slots": 0}, "slots is 0, but must be at least 1"),
        ({"n_trees": 0}, "n_trees is 0, but must be at least 1"),
    ],
)
def test_settings_out_of_range(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PartViews(**settings)  # type: ignore[arg-type]


def test_features_that_are_no_map_are_refused() -> None:
    with pytest.raises(ValueError, match="37 features are no map on a 6x6 grid.*'parts'"):
        PartViews().setup(37, CLASSES, "cpu", seed=0)
    with pytest.raises(ValueError, match="no buffers yet"):
        PartViews().score(torch.zeros(1, 36), torch.zeros(1, dtype=torch.long))
