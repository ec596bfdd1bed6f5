"""Detectors by class means and by histograms: the maths, one by one, and what they are for."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from online_debias.callbacks import ConflictScore, Resample
from online_debias.detectors import (
    Centroid,
    Detector,
    Loda,
    Mahalanobis,
    VoronoiCells,
    conflict,
)
from online_debias.engine import Batch, Engine
from online_debias.functional.scores.class_distance import (
    cell_depth,
    cosine_distance,
    cosine_distance_between,
    mahalanobis_distance,
    nearness,
    squared_distance,
    whitening,
)
from online_debias.functional.scores.loda import (
    bin_posterior,
    bin_rareness,
    equal_bins,
    project,
    sparse_projections,
)
from tests.no_sync import NoSync

torch.set_num_threads(1)

CLASSES, WIDTH = 5, 16
MEANS = [Centroid, Mahalanobis, VoronoiCells]
ALL: list[Callable[..., Detector]] = [*MEANS, Loda, lambda **s: Loda(score="density", **s)]
every = pytest.mark.parametrize("kind", ALL, ids=["centroid", "maha", "voronoi", "loda", "density"])
by_means = pytest.mark.parametrize("kind", MEANS)


def make(kind: Callable[..., Any] = Centroid, seed: int = 0, **settings: Any) -> Any:
    detector = kind(**{"fold": 64, "retention": 0.9, **settings})
    detector.setup(WIDTH, CLASSES, "cpu", seed)
    return detector


def biased(rows: int, seed: int = 0, drift: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Features that show a bias attribute, equal to the class in all but 5 % of rows.

    Some aligned rows are odd. With `drift` the features turn, and shift, from first row to last.
    """
    random = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (rows,), generator=random)
    other = (y + torch.randint(1, CLASSES, (rows,), generator=random)) % CLASSES
    conflicting = torch.rand(rows, generator=random) < 0.05
    bias = torch.where(conflicting, other, y)
    fixed = torch.Generator().manual_seed(9)
    start, end = (2 * torch.randn(CLASSES, WIDTH, generator=fixed) for _ in range(2))
    angle = drift * torch.linspace(0, math.pi / 2, rows)[:, None]
    centre = start[bias] * angle.cos() + end[bias] * angle.sin() + 5 * angle
    noise = torch.randn(rows, WIDTH, generator=random)
    tail = 1 + 2 * (torch.rand(rows, generator=random) < 0.1) * ~conflicting
    return centre + noise * tail[:, None], y, conflicting


def feed(detector: Detector, x: Tensor, y: Tensor, size: int = 64) -> Tensor:
    """Scores of a stream, each batch scored before it was learned."""
    scores = [
        detector.step(x[rows], y[rows], torch.ones(len(rows)))[0]
        for rows in torch.arange(len(x)).split(size)
    ]
    return torch.cat(scores)


def random_case(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(7, 4, generator=random)
    return x, torch.randn(3, 4, generator=random), torch.randint(3, (7,), generator=random)


# The maths


def test_cosine_and_squared_distances_are_those_of_a_loop() -> None:
    x, means, _ = random_case()
    cosines, squares = cosine_distance(x, means), squared_distance(x, means)
    for i, row in enumerate(x):
        for c, mean in enumerate(means):
            expected = 1 - row.dot(mean) / (row.norm() * mean.norm())
            torch.testing.assert_close(cosines[i, c], expected)
            torch.testing.assert_close(squares[i, c], sum((row - mean) ** 2))


def test_what_rounding_cannot_tell_apart_is_as_near() -> None:
    x = torch.full((1, 3), 100.0)
    assert conflict(nearness(cosine_distance(x, x.repeat(2, 1) * 1.1)), torch.tensor([1])) == 0
    assert conflict(nearness(squared_distance(x, x.repeat(2, 1))), torch.tensor([1])) == 0


def test_the_mean_cosine_distance_between_means_is_over_seen_pairs() -> None:
    _, means, _ = random_case()
    seen = torch.tensor([True, False, True])
    pairs = cosine_distance(means, means)
    torch.testing.assert_close(cosine_distance_between(means, seen), pairs[0, 2])
    all_seen = cosine_distance_between(means, torch.ones(3).bool())
    torch.testing.assert_close(all_seen, (pairs[0, 1] + pairs[0, 2] + pairs[1, 2]) / 3)


def test_whitening_is_the_inverse_of_the_shrunk_covariance() -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(50, 4, generator=random) @ torch.randn(4, 4, generator=random)
    x = x * torch.tensor([1e-3, 1.0, 1.0, 1e3])
    scatter, mass = x.T @ x, torch.tensor(50.0)
    whiten = whitening(scatter, mass, torch.zeros(4), shrinkage=2.0)
    covariance = (scatter / mass).double()
    diagonal = covariance.diagonal().diag()
    shrunk = (50 * covariance + 8 * diagonal) / 58
    rows, means = x[:5], x[5:8]
    distance = mahalanobis_distance(rows, means, whiten)
    for i, row in enumerate(rows.double()):
        for c, mean in enumerate(means.double()):
            expected = (row - mean) @ shrunk.inverse() @ (row - mean)
            torch.testing.assert_close(distance[i, c].double(), expected, rtol=1e-4, atol=1e-3)


def test_whitening_bears_features_without_variance_and_few_rows() -> None:
    x = torch.zeros(3, 6)
    x[:, 1], x[0, 2] = torch.arange(3.0) - 1, 0.0
    between = torch.tensor([0.0, 0.0, 4.0, 0.0, 0.0, 0.0])
    whiten = whitening(x.T @ x, torch.tensor(3.0), between, shrinkage=1.0)
    assert whiten.isfinite().all()
    assert not whiten[:, [0, 3, 4, 5]].any()  # a constant has no say
    assert whiten[2, 2] == pytest.approx(1 / math.sqrt(1e-4 * 4))  # one that is pure class has
    nothing = whitening(torch.zeros(2, 2), torch.tensor(0.0), torch.zeros(2), shrinkage=1.0)
    assert not nothing.any()
    broken = torch.tensor([[1.0, 9.0], [9.0, 1.0]])  # as rounding might leave it, no covariance
    whiten = whitening(broken, torch.tensor(1e9), torch.ones(2), shrinkage=1.0)
    assert whiten.isfinite().all() and whiten.diagonal().gt(0).all()


def test_the_depth_in_another_cell_is_that_of_hyperplanes() -> None:
    x, means, y = random_case()
    x, means = x + 3, means + 3
    seen = torch.tensor([True, True, True])
    for row, target, depth in zip(x, y, cell_depth(x, means, seen, y), strict=True):
        deepest = -math.inf
        for o in range(3):
            if o != target:
                w = means[o] - means[target]
                h = 0.5 * (means[target].square().sum() - means[o].square().sum())
                deepest = max(deepest, float((w @ row + h) / w.norm()))
        expected = deepest * 3 / float(means.norm(dim=1).sum())
        assert float(depth) == pytest.approx(expected, rel=1e-4, abs=1e-5)
        own = (row - means[target]).norm()
        assert (depth > 0) == any((row - mean).norm() < own for mean in means)


def test_cells_of_classes_not_seen_do_not_count() -> None:
    x, means, _ = random_case()
    y = torch.zeros(7).long()
    seen = torch.tensor([True, True, False])
    expected = cell_depth(x, means[:2], seen[:2], y)
    torch.testing.assert_close(cell_depth(x, means, seen, y), expected)
    alone = cell_depth(x, means, torch.tensor([True, False, False]), y)
    assert alone.eq(-math.inf).all()


def test_nearness_makes_the_conflict_ratio_one_of_distances() -> None:
    distance = torch.tensor([[4.0, 1.0, math.inf], [2.0, 2.0, 2.0], [0.0, 1.0, 5.0]])
    p = nearness(distance)
    torch.testing.assert_close(p.sum(1), torch.ones(3))
    torch.testing.assert_close(p[0], torch.tensor([0.2, 0.8, 0.0]))
    expected = torch.tensor([1 - 1 / 4, 0.0, 0.0])
    torch.testing.assert_close(conflict(p, torch.tensor([0, 1, 0])), expected)
    torch.testing.assert_close(conflict(p, torch.tensor([2, 1, 2])), torch.tensor([1.0, 0.0, 1.0]))
    unknown = nearness(torch.tensor([[math.inf, math.inf], [math.nan, 1.0]]))
    torch.testing.assert_close(unknown, torch.full((2, 2), 0.5))


def test_projections_are_sparse_and_read_no_feature_twice() -> None:
    feature, weight = sparse_projections(50, 10, torch.Generator().manual_seed(0))
    assert feature.shape == weight.shape == (50, 4)
    assert all(len(set(row.tolist())) == 4 for row in feature)
    assert set(feature.flatten().tolist()) == set(range(10))
    x = torch.randn(6, 10, generator=torch.Generator().manual_seed(1))
    ours = project(x, feature, weight)
    for i in range(6):
        for k in range(50):
            value = sum(x[i, feature[k, s]] * weight[k, s] for s in range(4))
            torch.testing.assert_close(ours[i, k], torch.as_tensor(value))


def test_bins_are_equal_parts_of_the_normal_distribution() -> None:
    value = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    value[0, 0], value[1, 0], value[2, 0] = torch.nan, torch.inf, -torch.inf
    centre, deviation = torch.tensor([0.3, 0.0]), torch.tensor([2.0, 0.5])
    ours = equal_bins(value, centre, deviation, 7)
    for i in range(400):
        for k in range(2):
            z = (float(value[i, k]) - float(centre[k])) / float(deviation[k])
            cdf = 1.0 if math.isnan(z) else 0.5 * (1 + math.erf(z / math.sqrt(2)))
            assert ours[i, k] == min(6, int(cdf * 7))
    assert ours.unique().tolist() == list(range(7))


def test_bin_posteriors_and_rareness_are_those_of_a_loop() -> None:
    masses = torch.rand(4, 3, 2, generator=torch.Generator().manual_seed(0)) * 9
    masses[2] = 0
    masses = masses / masses.sum(0) * torch.tensor([40.0, 10.0])  # every projection sees all rows
    posterior, rareness = bin_posterior(masses, 8.0, 1.0), bin_rareness(masses, 0.5)
    for h in range(4):
        for k in range(3):
            size = masses[h, k].tolist()
            likely = [size[0] * (25 + 8) / (40 + 8) + 1, size[1] * (25 + 8) / (10 + 8) + 1]
            for c in range(2):
                expected = likely[c] / sum(likely)
                assert float(posterior[h, k, c]) == pytest.approx(expected, rel=1e-5)
                fullest = max(float(masses[i, k, c]) for i in range(4))
                expected = -math.log((size[c] + 0.5) / (fullest + 0.5))
                assert float(rareness[h, k, c]) == pytest.approx(expected, rel=1e-4, abs=1e-6)


# Running means and histograms


@by_means
def test_means_and_scatter_are_those_of_faded_windows(kind: type[Detector]) -> None:
    detector = make(kind, fold=32)
    x, y, _ = biased(400)
    x = x + 20
    mass = torch.randint(4, (400,), generator=torch.Generator().manual_seed(0)) / 2
    rows: list[tuple[Tensor, int, float]] = []
    window: list[tuple[Tensor, int, float]] = []
    sizes = [8, 8, 16, *[32] * 20]
    for batch in torch.arange(400).split(10):
        detector.learn(x[batch], y[batch], mass[batch])
        window += zip(x[batch].double(), y[batch].tolist(), mass[batch].tolist(), strict=True)
        if len(window) >= sizes[0]:
            rows = [(a, b, 0.9 * m) for a, b, m in rows] + window
            sizes, window = sizes[1:], []
    assert detector.folds == 23 - len(sizes) > 8
    scatter = torch.zeros(WIDTH, WIDTH, dtype=torch.float64)
    for c in range(CLASSES):
        own = [(a, m) for a, b, m in rows if b == c]
        total = sum(m for _, m in own)
        mean = sum((m * a for a, m in own), torch.zeros(WIDTH).double()) / total
        assert float(detector.mass[c]) == pytest.approx(total, rel=1e-4)
        torch.testing.assert_close(detector.mean[c].double(), mean, rtol=1e-4, atol=1e-4)
        scatter += sum(m * torch.outer(a - mean, a - mean) for a, m in own)
    if issubclass(kind, Mahalanobis):
        assert (detector.scatter - scatter).abs().max() < 1e-3 * scatter.diagonal().max()


def test_mahalanobis_scores_are_margins_in_squared_deviations() -> None:
    detector = make(Mahalanobis)
    x, y, _ = biased(640)
    feed(detector, x, y)
    within = torch.linalg.pinv(detector.whiten.T.double() @ detector.whiten.double())
    for row, target, score in zip(x[:40], y[:40], detector.score(x[:40], y[:40]), strict=True):
        far = [(row - mean).double() for mean in detector.mean]
        squares = [float(d @ within.inverse() @ d) for d in far]
        margin = squares[target] - min(squares)
        assert float(score) == pytest.approx(margin / (margin + 9), rel=1e-3, abs=1e-3)


def test_cosine_scores_are_ratios_with_slack() -> None:
    detector = make(Centroid)
    x, y, _ = biased(640)
    feed(detector, x, y)
    between = cosine_distance_between(detector.mean, detector.seen)
    distance = cosine_distance(x, detector.mean) + 0.25 * between
    expected = 1 - distance.amin(1) / distance.gather(1, y[:, None])[:, 0]
    torch.testing.assert_close(detector.score(x, y), expected)
    assert torch.equal(detector.posterior(x).argmax(1), distance.argmin(1))


def test_the_bias_value_is_the_cell_a_row_lies_in() -> None:
    detector = make(VoronoiCells)
    x, y, _ = biased(640)
    feed(detector, x, y)
    nearest = torch.cdist(x, detector.mean).argmin(1)
    assert torch.equal(detector.posterior(x).argmax(1), nearest)
    score = detector.score(x, y)
    assert torch.equal(score > 0, nearest != y)
    depth = cell_depth(x, detector.mean, detector.seen, y).clamp_min(0)
    torch.testing.assert_close(score, depth / (1 + depth))


@pytest.mark.parametrize("score", ["posterior", "density"])
def test_loda_is_that_of_an_obvious_reference(score: str) -> None:
    detector = make(Loda, score=score, n_projections=4, bins=5, fold=32)
    masses = torch.zeros(5, 4, CLASSES)
    opened = torch.zeros_like(masses)
    x, y, _ = biased(300)
    random = torch.Generator().manual_seed(0)
    for batch in torch.arange(300).split(20):
        mass = torch.randint(4, (20,), generator=random) / 2
        ours = detector.score(x[batch], y[batch])
        bins = []
        for row, target, weight, scored in zip(x[batch], y[batch], mass, ours, strict=True):
            value = [
                float(sum(row[i] * w for i, w in zip(*pair, strict=True)))
                for pair in zip(detector.feature, detector.weight, strict=True)
            ]
            z = [
                (v - float(m)) / max(float(s), 1e-30)
                for v, m, s in zip(value, detector.centre, detector.deviation, strict=True)
            ]
            bins.append([min(4, int(0.5 * (1 + math.erf(a / math.sqrt(2))) * 5)) for a in z])
            at = [masses[h, k] for k, h in enumerate(bins[-1])]
            if score == "posterior":
                of_class = masses.sum((0, 1)) / 4
                rarity = (of_class.mean() + 8) / (of_class + 8)
                likely = [m * rarity + 1 for m in at]
                p = sum(a / a.sum() for a in likely) / 4
                expected = 1 - p[target] / max(p)
            else:
                fullest = [float(masses[:, k, target].max()) for k in range(4)]
                ratio = [(m[target] + 1) / (f + 1) for m, f in zip(at, fullest, strict=True)]
                expected = 1 - torch.stack(ratio).prod() ** 0.25
            torch.testing.assert_close(scored, expected, rtol=1e-3, atol=1e-4)
            if detector.folds:
                for k, h in enumerate(bins[-1]):
                    opened[h, k, target] += weight
        before = detector.folds
        detector.learn(x[batch], y[batch], mass)
        if detector.folds > before:
            masses = 0.9 * masses + opened
            opened = torch.zeros_like(masses)
    torch.testing.assert_close(detector.reference, masses)
    assert detector.ready and ours.gt(0.1).any()


# What they are for


@every
def test_rows_that_look_like_another_class_are_found_after_a_few_batches(
    kind: Callable[..., Detector],
) -> None:
    x, y, conflicting = biased(2048)
    detector = kind()
    detector.setup(WIDTH, CLASSES, "cpu", seed=0)
    scores = feed(detector, x, y, size=128)
    assert scores.dtype == torch.float32 and scores.min() >= 0 and scores.max() <= 1
    assert roc_auc_score(conflicting[512:], scores[512:]) >= 0.97


@every
def test_a_stream_that_drifts_is_followed(kind: Callable[..., Detector]) -> None:
    x, y, conflicting = biased(4096, drift=1.0)
    followed, stopped = make(kind), make(kind)
    late = slice(3072, None)
    quality = roc_auc_score(conflicting[late], feed(followed, x, y)[late])
    feed(stopped, x[:1024], y[:1024])
    assert quality >= 0.95
    assert quality > roc_auc_score(conflicting[late], stopped.score(x[late], y[late])) + 0.1


@every
def test_scores_come_early_and_are_zero_before(kind: Callable[..., Detector]) -> None:
    detector = make(kind, fold=128)
    x, y, conflicting = biased(160)
    first = 1 if isinstance(detector, Centroid | Mahalanobis | VoronoiCells) else 2
    for rows in torch.arange(32 * first).split(16):
        assert not detector.ready
        score, posterior = detector.step(x[rows], y[rows], torch.ones(16))
        assert not score.any()
        if posterior is not None:
            torch.testing.assert_close(posterior, torch.full((16, CLASSES), 1 / CLASSES))
    assert detector.ready and detector.folds == first
    score = detector.score(x, y)
    assert score[conflicting].mean() > score[~conflicting].mean() + 0.1


def test_windows_are_short_at_first_and_close_with_a_batch() -> None:
    detector = make(fold=128)
    x, y, _ = biased(640)
    folded = []
    for i, rows in enumerate(torch.arange(640).split(24)):
        before = detector.folds
        feed(detector, x[rows], y[rows])
        folded += [i + 1] * (detector.folds - before)
    assert folded == [2, 4, 7, 13, 19, 25]  # 32, 32, 64, 128, ... rows, in batches of 24


@every
def test_between_folds_scoring_is_pure_and_step_scores_before_it_learns(
    kind: Callable[..., Detector],
) -> None:
    x, y, _ = biased(300)
    together, apart = make(kind), make(kind)
    for rows in torch.arange(300).split(30):
        before = copy.deepcopy(dict(apart.named_buffers()))
        score = apart.score(x[rows], y[rows])
        assert torch.equal(score, apart.score(x[rows], y[rows]))
        assert all(torch.equal(b, before[name]) for name, b in apart.named_buffers())
        apart.learn(x[rows], y[rows], torch.ones(len(rows)))
        step, posterior = together.step(x[rows], y[rows], torch.ones(len(rows)))
        assert torch.equal(step, score)
        assert (posterior is not None) == together.has_posterior
    folds = apart.folds
    detail = apart.score(x, y)
    apart.learn(x[:5], y[:5], torch.ones(5))
    assert apart.folds == folds and torch.equal(apart.score(x, y), detail)


@by_means
def test_a_class_not_seen_is_never_the_nearest_and_its_rows_score_0(kind: type[Detector]) -> None:
    detector = make(kind)
    x, y, _ = biased(640)
    y = y % 4
    feed(detector, x, y)
    strange = torch.cat([x, torch.zeros(1, WIDTH)])
    posterior = detector.posterior(strange)
    assert not posterior[:, 4].any()
    torch.testing.assert_close(posterior.sum(1), torch.ones(641))
    assert not detector.score(strange, torch.full((641,), 4)).any()


# Masses, state


@every
def test_a_row_without_mass_teaches_nothing(kind: Callable[..., Detector]) -> None:
    x, y, _ = biased(512)
    plain, mixed = make(kind, fold=64), make(kind, fold=96)  # each folds with every batch
    for rows in torch.arange(512).split(64):
        plain.learn(x[rows], y[rows], torch.ones(64))
        junk = torch.cat([x[rows], torch.full((16, WIDTH), 1e4), torch.full((16, WIDTH), 1e30)])
        mass = torch.cat([torch.ones(64), torch.zeros(32)])
        mixed.learn(junk, torch.cat([y[rows], torch.zeros(32).long()]), mass)
    assert plain.folds == mixed.folds == 8
    torch.testing.assert_close(mixed.score(x, y), plain.score(x, y))
    nothing = make(kind)
    for rows in torch.arange(512).split(64):
        nothing.learn(x[rows], y[rows], torch.zeros(64))
    assert nothing.folds > 5 and not nothing.score(x, y).any()
    scores = feed(nothing, x, y)  # and it can begin later
    assert scores.isfinite().all() and scores[256:].any()


@every
def test_a_row_drawn_twice_with_half_the_mass_counts_once(kind: Callable[..., Detector]) -> None:
    x, y, _ = biased(256)
    once, twice = make(kind, fold=64), make(kind, fold=128)  # windows of as many batches
    for rows in torch.arange(256).split(32):
        once.learn(x[rows], y[rows], torch.ones(32))
        double = rows.repeat(2)
        twice.learn(x[double], y[double], torch.full((64,), 0.5))
    assert once.ready and once.folds == twice.folds
    torch.testing.assert_close(twice.score(x, y), once.score(x, y), rtol=1e-4, atol=1e-4)


@every
def test_a_saved_detector_goes_on_bit_for_bit(kind: Callable[..., Detector]) -> None:
    x, y, _ = biased(1000)
    detector = make(kind)
    feed(detector, x[:700], y[:700], size=90)
    file = io.BytesIO()
    torch.save(detector.state_dict(), file)
    file.seek(0)
    restored = make(kind, seed=1)
    restored.load_state_dict(torch.load(file, weights_only=True))
    scores = feed(detector, x[700:], y[700:], size=90)
    assert scores.gt(0).any()
    assert torch.equal(feed(restored, x[700:], y[700:], size=90), scores)
    assert restored.folds == detector.folds


def test_projections_come_from_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = make(Loda, seed=5)
    torch.manual_seed(2)
    assert torch.equal(first.weight, make(Loda, seed=5).weight)
    assert not torch.equal(first.weight, make(Loda, seed=6).weight)


@every
def test_missing_and_infinite_values_do_not_spread(kind: Callable[..., Detector]) -> None:
    detector = make(kind)
    x, y, conflicting = biased(1024)
    spoilt = x.clone()
    spoilt[::7, 3], spoilt[::11, 4], spoilt[::13, 5] = torch.nan, torch.inf, -torch.inf
    spoilt[::17, 6], spoilt[5] = 1e30, torch.nan
    scores = feed(detector, spoilt, y)
    assert scores.isfinite().all()
    assert all(b.isfinite().all() for b in detector.buffers())
    assert roc_auc_score(conflicting[512:], scores[512:]) > 0.9


@pytest.mark.parametrize("kind", [*MEANS, Loda])
@pytest.mark.parametrize("value", [0.0, 7.3])
def test_features_that_tell_nothing_give_no_conflict(
    kind: Callable[..., Detector], value: float
) -> None:
    detector = make(kind)
    y = torch.arange(512) % CLASSES
    scores = feed(detector, torch.full((512, WIDTH), value), y)
    assert scores.max() < 0.2


@every
def test_half_precision_features_that_require_gradients_are_welcome(
    kind: Callable[..., Detector],
) -> None:
    x, y, _ = biased(256)
    x = x.to(torch.bfloat16)
    detector, attached = make(kind), make(kind)
    feed(detector, x.float(), y)
    with torch.autocast("cpu", torch.bfloat16):
        feed(attached, x.clone().requires_grad_(), y)
        scores = attached.score(x, y)
        if attached.has_posterior:
            assert torch.equal(attached.posterior(x), detector.posterior(x.float()))
    assert torch.equal(scores, detector.score(x, y)) and scores.dtype == torch.float32
    assert not scores.requires_grad


@every
def test_no_step_waits_for_the_device(kind: Callable[..., Detector]) -> None:
    detector = make(kind)
    x, y, _ = biased(640)
    with NoSync():
        feed(detector, x, y)
    assert detector.folds > 5


@pytest.mark.gpu
@every
def test_the_device_does_not_matter(kind: Callable[..., Detector]) -> None:
    x, y, _ = biased(1024)
    detector, moved = make(kind), make(kind).to("cuda")
    scores = feed(detector, x, y)
    torch.cuda.set_sync_debug_mode("error")
    try:
        batches = [(x[r].cuda(), y[r].cuda()) for r in torch.arange(1024).split(64)]
        ones = torch.ones(64, device="cuda")
        theirs = [moved.step(rows, targets, ones)[0] for rows, targets in batches]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(torch.cat(theirs).cpu(), scores, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (Centroid, {"fold": 0}, "Centroid: fold is 0, expected at least 1."),
        (VoronoiCells, {"retention": 1.0}, "VoronoiCells: retention is 1.0, expected"),
        (Mahalanobis, {"shrinkage": 0.0}, "Mahalanobis: shrinkage is 0.0, expected a number above"),
        (Loda, {"fold": -1}, "Loda: fold is -1"),
        (Loda, {"n_projections": 0}, "Loda: n_projections is 0, expected at least 1."),
        (Loda, {"bins": 1}, "Loda: bins is 1, expected at least 2."),
        (Loda, {"score": "mass"}, "Loda: score is 'mass', expected 'posterior' or 'density'."),
        (Loda, {"least_mass": 0.0}, "Loda: least_mass is 0.0"),
        (Loda, {"prior": 0.0}, "Loda: prior is 0.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    kind: type[Detector], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**settings)


@every
def test_wrong_input_is_refused_with_the_mend(kind: Callable[..., Detector]) -> None:
    x, y, _ = biased(8)
    with pytest.raises(ValueError, match="call setup"):
        kind().score(x, y)
    detector = make(kind)
    with pytest.raises(ValueError, match=r"shape \[8, 15\].*\[rows, 16\]"):
        detector.score(x[:, 1:], y)
    with pytest.raises(ValueError, match="targets has shape"):
        detector.learn(x, y[:7], torch.ones(8))
    with pytest.raises(ValueError, match="mass has shape"):
        detector.step(x, y, torch.ones(7))
    other = kind()
    other.setup(WIDTH + 1, CLASSES, "cpu", 0)
    with pytest.raises(ValueError, match="use the settings, classes and features"):
        other.load_state_dict(detector.state_dict())


def test_densities_have_no_posterior() -> None:
    with pytest.raises(ValueError, match="score='density' has no posterior"):
        make(Loda, score="density").posterior(torch.zeros(2, WIDTH))


# In a run


class Net(nn.Module):
    """Inputs are the features at the shallow tap."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1, self.head = nn.Identity(), nn.Linear(WIDTH, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.stage1(inputs))
        return logits


def run_step(engine: Engine, net: Net, rows: Tensor, x: Tensor, y: Tensor) -> Batch:
    batch = engine.start_step(rows, x[rows], y[rows])
    engine.loss(batch, net(batch.inputs))
    engine.end_step(batch)
    return batch


@every
def test_in_an_engine_conflicting_samples_come_to_be_drawn_oftener(
    kind: Callable[..., Detector],
) -> None:
    x, y, conflicting = biased(1024)
    torch.manual_seed(0)
    net, detector = Net(), kind(fold=64)
    score = ConflictScore(detector)
    engine = Engine(net, [score, Resample(share=0.5)], n_samples=len(x), n_classes=CLASSES)
    batches: list[Batch] = []
    for _ in range(2):
        for rows in engine.sampling.indices().split(64):
            batches.append(run_step(engine, net, rows, x, y))
        engine.end_epoch()
    assert ("bias_label" in score.provides) == detector.has_posterior
    drawn = torch.cat([batch.index for batch in batches[16:]])
    oftener = 3.0 if detector.has_posterior else 1.2  # densities are not meant for Resample's slope
    factor = engine.run.tables["resample"]
    assert factor[conflicting].mean() > oftener * factor.mean()
    late = torch.cat([batch.signals["conflict"] for batch in batches[16:]])
    assert roc_auc_score(conflicting[drawn], late) > 0.95


@every
def test_a_run_that_is_resumed_scores_the_same(kind: Callable[..., Detector]) -> None:
    x, y, _ = biased(320)

    def start() -> tuple[Engine, Net]:
        torch.manual_seed(0)
        net = Net()
        return Engine(net, [ConflictScore(kind(fold=64))], n_samples=320, n_classes=CLASSES), net

    (engine, net), (resumed, other) = start(), start()
    *before, after = torch.arange(320).split(80)
    for rows in before:
        run_step(engine, net, rows, x, y)
    file = io.BytesIO()
    torch.save(engine.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    signals = run_step(engine, net, after, x, y).signals
    assert signals["conflict"].any()
    for name, value in run_step(resumed, other, after, x, y).signals.items():
        assert torch.equal(value, signals[name])
