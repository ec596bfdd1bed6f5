"""Half-space trees against river, against a slow reference, and against their purpose."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from river.anomaly import HalfSpaceTrees as River
from sklearn.metrics import roc_auc_score
from torch import Tensor

from benchmarks.speed.river_trees import heap_order, river_trees
from online_debias.detectors import HalfSpaceTrees, MassTrees
from online_debias.detectors.external.river import as_dicts, score_then_learn
from online_debias.detectors.trees.trees import NodeMasses, heap_position, random_trees

torch.set_num_threads(1)
Trees = HalfSpaceTrees | MassTrees
every = pytest.mark.parametrize(
    ("kind", "settings"), [(HalfSpaceTrees, {}), (MassTrees, {}), (MassTrees, {"classes": False})]
)


def stream(rows: int, width: int, seed: int = 0) -> Tensor:
    """Features around [0, 1], a few missing."""
    random = torch.Generator().manual_seed(seed)
    x = torch.rand(rows, width, generator=random) * 1.4 - 0.2
    return torch.where(torch.rand(rows, width, generator=random) < 0.03, torch.nan, x)


def river_model(width: int, trees: int, height: int, window: int) -> Any:
    """A river model that has its trees and no mass."""
    model: Any = River(n_trees=trees, height=height, window_size=window, seed=3)
    model.learn_one(dict.fromkeys(range(width), 0.5))
    for tree in model.trees:
        for node in heap_order(tree):
            node.l_mass = 0
    model.counter = 0
    return model


def river_twin(model: Any, width: int, n_classes: int = 1, retention: float = 0.0) -> MassTrees:
    """Our detector with a river model's trees and semantics."""
    detector = MassTrees(
        n_trees=model.n_trees,
        height=model.height,
        fold=model.window_size,
        retention=retention,
        classes=n_classes > 1,
        normalizer="none",
    )
    detector.setup(width, n_classes, "cpu", seed=0)
    detector.plant(*river_trees(model))
    return detector


def heap_masses(leaves: Tensor) -> Tensor:
    """Masses of all nodes `[trees, nodes]` in heap order, from our leaves `[L, T]`."""
    masses = NodeMasses(leaves, torch.float64)
    masses.sum(leaves)
    ordered = [torch.empty_like(level) for level in masses.levels]
    for k, level in enumerate(masses.levels):
        ordered[k][heap_position(k)] = level
    return torch.cat(ordered).T


def assert_same_masses(model: Any, open_: Tensor, reference: Tensor) -> None:
    nodes = [heap_order(tree) for tree in model.trees]
    for name, ours in (("l_mass", open_), ("r_mass", reference)):
        theirs = torch.tensor([[float(getattr(n, name)) for n in tree] for tree in nodes])
        assert torch.equal(heap_masses(ours), theirs.double())


def feed(detector: Trees, x: Tensor, y: Tensor | None = None) -> None:
    detector.learn(x, torch.zeros(len(x)).long() if y is None else y, torch.ones(len(x)))


@pytest.mark.parametrize(
    ("height", "width", "window", "trees"),
    [
        (2, 1, 7, 9),
        (3, 3, 20, 9),
        (5, 32, 250, 9),
        (8, 128, 250, 5),
        (10, 3, 20, 3),
        (15, 3, 250, 1),
    ],
)
def test_scores_are_rivers_to_the_last_bit(
    height: int, width: int, window: int, trees: int
) -> None:
    model = river_model(width, trees, height, window)
    detector = river_twin(model, width)
    x = stream(3 * window + 30, width)
    seen = set()
    for start in range(0, len(x), window):  # a batch ends where a window closes
        for rows in x[start : start + window].split(64):
            theirs = score_then_learn(model, as_dicts(rows))
            assert torch.equal(detector.exact_score(rows, torch.zeros(len(rows)).long()), theirs)
            feed(detector, rows)
            seen.update(theirs.tolist())
    assert len(seen) > 2
    assert_same_masses(model, detector.open[..., 0], detector.reference[..., 0])


def test_values_on_a_threshold_go_where_river_sends_them() -> None:
    model = river_model(2, 5, 6, 64)
    detector = river_twin(model, 2)
    thresholds = river_trees(model)[1].float().flatten()  # float32 values beside float64 thresholds
    for rows in thresholds[:256].view(2, 64, 2):
        score_then_learn(model, as_dicts(rows))
        feed(detector, rows)
        assert_same_masses(model, detector.open[..., 0], detector.reference[..., 0])


def test_scoring_whole_batches_differs_from_river_only_after_a_window_closed_inside() -> None:
    model = river_model(8, 5, 5, 50)
    detector = river_twin(model, 8)
    later = []
    for k, rows in enumerate(stream(640, 8).split(64)):
        ours = detector.exact_score(rows, torch.zeros(64).long())
        feed(detector, rows)
        same = ours == score_then_learn(model, as_dicts(rows))
        before = 50 - 64 * k % 50  # rows until the first window of the batch closes
        assert same[:before].all()
        later += same[before:].tolist()
    assert not all(later)
    assert_same_masses(model, detector.open[..., 0], detector.reference[..., 0])


@pytest.mark.parametrize("window", [7, 20, 250])
def test_each_class_is_a_river_forest_of_its_own(window: int) -> None:
    models = [river_model(4, 5, 4, window)]
    detector = river_twin(models[0], 4, n_classes=3)
    models += [copy.deepcopy(models[0]) for _ in range(2)]
    random = torch.Generator().manual_seed(0)
    probe = stream(30, 4, seed=1)
    for rows in stream(1200, 4).split(150):
        y = torch.randint(3, (len(rows),), generator=random)
        feed(detector, rows, y)
        for label, model in enumerate(models):
            score_then_learn(model, as_dicts(rows[y == label]))
            theirs = [float(model.score_one(row)) for row in as_dicts(probe)]
            ours = detector.exact_score(probe, torch.full((30,), label))
            assert torch.equal(ours, torch.tensor(theirs, dtype=torch.float64))
            assert_same_masses(model, detector.open[..., label], detector.reference[..., label])
    assert detector.ready and ours.min() > 0


@pytest.mark.parametrize("n_classes", [1, 3])
def test_windows_that_fade_close_alike_in_batches_and_one_by_one(n_classes: int) -> None:
    model = river_model(4, 5, 4, 5)
    batched, single = (river_twin(model, 4, n_classes, retention=0.5) for _ in range(2))
    x, y = stream(120, 4), torch.arange(120) * 7 % 11 % n_classes
    mass = torch.rand(120, generator=torch.Generator().manual_seed(0))
    for rows in torch.arange(120).split(40):
        batched.learn(x[rows], y[rows], mass[rows])
    for rows in torch.arange(120).split(1):
        single.learn(x[rows], y[rows], mass[rows])
    torch.testing.assert_close(batched.open, single.open)
    torch.testing.assert_close(batched.reference, single.reference)


class SlowPosterior:
    """The label posterior, one sample, one tree and one node at a time."""

    def __init__(self, feature: Tensor, threshold: Tensor, n_classes: int, fold: int) -> None:
        self.feature, self.threshold = feature.tolist(), threshold.tolist()
        self.classes, self.windows = n_classes, [fold // 4, fold // 4, fold // 2, fold]
        self.window: list[tuple[list[float], int, float]] = []
        self.history: list[list[tuple[list[float], float]]] = []
        self.open: dict[tuple[int, int], list[float]] = {}
        self.reference: dict[tuple[int, int], list[float]] = {}
        self.mean: list[float] = []
        self.deviation: list[float] = []

    def path(self, tree: int, x: list[float]) -> list[int]:
        nodes = [0]
        while nodes[-1] < len(self.feature[tree]):
            d = self.feature[tree][nodes[-1]]
            z = (x[d] - self.mean[d]) / self.deviation[d]
            left = 0.5 * (1 + math.erf(z / math.sqrt(2))) < self.threshold[tree][nodes[-1]]
            nodes.append(2 * nodes[-1] + (1 if left else 2))
        return nodes

    def learn(self, x: list[list[float]], y: list[int], mass: list[float]) -> None:
        for row in zip(x, y, mass, strict=True):
            self.window.append(row)
            for tree in range(len(self.feature) if self.mean else 0):
                for node in self.path(tree, row[0]):
                    self.open.setdefault((tree, node), [0.0] * self.classes)[row[1]] += row[2]
        if len(self.window) >= self.windows[min(len(self.history), 3)]:
            self.fold()

    def fold(self) -> None:
        for key, masses in self.reference.items():
            self.reference[key] = [0.88 * mass for mass in masses]
        for key, masses in self.open.items():
            old = self.reference.get(key, [0.0] * self.classes)
            self.reference[key] = [a + b for a, b in zip(old, masses, strict=True)]
        self.open = {}
        self.history.append([(x, mass) for x, _, mass in self.window])
        self.window = []
        ages = range(len(self.history) - 1, -1, -1)
        rows = [(x, m * 0.88**a) for a, w in zip(ages, self.history, strict=True) for x, m in w]
        total = sum(mass for _, mass in rows)
        width = range(len(rows[0][0]))
        self.mean = [sum(mass * x[d] for x, mass in rows) / total for d in width]
        squares = [sum(mass * (x[d] - self.mean[d]) ** 2 for x, mass in rows) for d in width]
        self.deviation = [math.sqrt(square / total) for square in squares]

    def posterior(self, x: list[float]) -> list[float]:
        none = [0.0] * self.classes
        result = none
        for tree in range(len(self.feature)):
            region, *deeper = [self.reference.get((tree, n), none) for n in self.path(tree, x)]
            of_class = region
            for masses in deeper:
                if sum(masses) >= 8:
                    region = masses
            mean = sum(of_class) / self.classes
            likely = [1 + m * (mean + 8) / (c + 8) for m, c in zip(region, of_class, strict=True)]
            result = [p + q / sum(likely) for p, q in zip(result, likely, strict=True)]
        return [p / len(self.feature) for p in result]


def test_the_posterior_is_that_of_an_obvious_reference() -> None:
    random = torch.Generator().manual_seed(0)
    feature = torch.randint(5, (6, 15), generator=random)
    threshold = torch.rand(6, 15, generator=random) * 0.8 + 0.1
    detector = HalfSpaceTrees(n_trees=6, height=4, fold=64)
    detector.setup(5, 3, "cpu", seed=0)
    detector.forest.plant(feature, threshold)
    slow = SlowPosterior(feature, threshold, 3, 64)
    answers = set()
    for k in range(14):
        y = (torch.rand(24, generator=random) ** 2 * 3).long()  # classes are not equally common
        x = torch.randn(24, 5, generator=random) + y[:, None] + 0.1 * k
        mass = torch.randint(4, (24,), generator=random) / 2
        ours = detector.posterior(x)
        if detector.ready:
            theirs = torch.tensor([slow.posterior(row) for row in x.tolist()])
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
            scores = 1 - theirs.gather(1, y[:, None])[:, 0] / theirs.amax(1)
            torch.testing.assert_close(detector.score(x, y), scores, rtol=1e-4, atol=1e-4)
            answers.update(theirs.argmax(1).tolist())
        detector.learn(x, y, mass)
        slow.learn(x.tolist(), y.tolist(), mass.tolist())
        assert detector.folds == len(slow.history)
    assert answers == {0, 1, 2} and detector.folds > 5


def biased(rows: int, seed: int = 0, n_classes: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Features that show a bias attribute, equal to the class in all but 5 % of rows."""
    random = torch.Generator().manual_seed(seed)
    y = torch.randint(n_classes, (rows,), generator=random)
    other = (y + torch.randint(1, n_classes, (rows,), generator=random)) % n_classes
    conflicting = torch.rand(rows, generator=random) < 0.05
    bias = torch.where(conflicting, other, y)
    centre = 2 * torch.randn(n_classes, 16, generator=torch.Generator().manual_seed(9))
    noise = torch.randn(rows, 16, generator=random)
    tail = 1 + 2 * (torch.rand(rows, generator=random) < 0.1) * ~conflicting  # odd aligned rows
    return centre[bias] + noise * tail[:, None], y, conflicting


@pytest.mark.parametrize(
    ("kind", "settings", "low", "high"),
    [
        (HalfSpaceTrees, {}, 0.98, 1.0),
        (MassTrees, {"fold": 100}, 0.95, 1.0),
        (MassTrees, {"classes": False}, 0.0, 0.6),
    ],
)
def test_conditioning_on_the_class_is_what_finds_conflicting_rows(
    kind: type[Trees], settings: dict[str, Any], low: float, high: float
) -> None:
    detector = kind(n_trees=50, **settings)
    detector.setup(16, 5, "cpu", seed=0)
    x, y, conflicting = biased(4096)
    scores = torch.cat(
        [detector.step(x[i], y[i], torch.ones(128))[0] for i in torch.arange(4096).split(128)]
    )
    assert scores.min() >= 0 and scores.max() <= 1
    late = slice(2048, None)
    assert low <= roc_auc_score(conflicting[late], scores[late]) <= high
    assert detector.class_conditional == settings.get("classes", True)


def make(kind: Callable[..., Any] = HalfSpaceTrees, seed: int = 0, **settings: Any) -> Any:
    detector = kind(**{"n_trees": 10, "height": 4, "fold": 64, **settings})
    detector.setup(16, 5, "cpu", seed)
    return detector


def test_nothing_is_scored_before_scale_and_masses_are_known() -> None:
    detector = make(fold=128)
    x, y, _ = biased(80)
    for rows in torch.arange(64).split(16):
        assert not detector.ready
        torch.testing.assert_close(detector.posterior(x[rows]), torch.full((16, 5), 0.2))
        assert detector.step(x[rows], y[rows], torch.ones(16))[0].eq(0).all()
    assert detector.ready and detector.folds == 2
    assert detector.score(x[64:], y[64:]).gt(0).any()


def test_step_scores_and_then_learns() -> None:
    together, apart = make(), make()
    x, y, _ = biased(512)
    for rows in torch.arange(512).split(100):
        mass = torch.ones(len(rows))
        posterior, score = apart.posterior(x[rows]), apart.score(x[rows], y[rows])
        apart.learn(x[rows], y[rows], mass)
        scores, posteriors = together.step(x[rows], y[rows], mass)
        assert posteriors is not None
        assert torch.equal(scores, score) and torch.equal(posteriors, posterior)


@every
def test_scoring_changes_nothing(kind: type[Trees], settings: dict[str, Any]) -> None:
    detector = make(kind, **settings)
    x, y, _ = biased(700)
    feed(detector, x, y)
    before = copy.deepcopy(detector.state_dict())
    first, again = detector.score(x[:9], y[:9]), detector.score(x[:9], y[:9])
    assert torch.equal(first, again)
    for name, value in detector.state_dict().items():
        assert (
            value == before[name] if isinstance(value, dict) else torch.equal(value, before[name])
        )


def test_the_order_of_rows_in_a_batch_does_not_matter() -> None:
    x, y, _ = biased(600)
    shuffled = torch.randperm(600, generator=torch.Generator().manual_seed(0))
    one, other = make(), make()
    for detector in (one, other):
        feed(detector, x, y)  # sets the scale
    feed(one, x, y)
    feed(other, x[shuffled], y[shuffled])
    assert torch.equal(one.reference, other.reference) and one.reference.sum() == 600 * 10


def test_a_row_drawn_twice_with_half_the_mass_counts_once() -> None:
    x, y, _ = biased(256)
    once, twice = make(fold=4096), make(fold=4096)
    for detector in (once, twice):
        feed(detector, x.repeat(4, 1), y.repeat(4))  # a window, which sets the scale
    once.learn(x, y, torch.ones(256))
    twice.learn(torch.cat([x, x]), torch.cat([y, y]), torch.full((512,), 0.5))
    assert torch.equal(once.open, twice.open) and once.open.sum() == 256 * 10


def test_a_row_without_mass_teaches_nothing() -> None:
    x, y, _ = biased(512)
    plain, mixed = make(fold=64), make(fold=96)  # each folds with every batch
    for rows in torch.arange(512).split(64):
        plain.learn(x[rows], y[rows], torch.ones(64))
        junk = torch.cat([x[rows], torch.full((32, 16), 1e4)])
        mass = torch.cat([torch.ones(64), torch.zeros(32)])
        mixed.learn(junk, torch.cat([y[rows], torch.zeros(32).long()]), mass)
    assert plain.folds == mixed.folds == 8
    torch.testing.assert_close(mixed.posterior(x), plain.posterior(x))


def test_missing_and_infinite_values_do_not_spread() -> None:
    detector = make()
    x, y, _ = biased(512)
    spoilt = x.clone()
    spoilt[::7, 3], spoilt[::11, 4], spoilt[::13, 5] = torch.nan, torch.inf, -torch.inf
    for rows in torch.arange(512).split(64):
        feed(detector, spoilt[rows], y[rows])
    scores = detector.score(torch.cat([x, spoilt]), torch.cat([y, y]))
    assert detector.forest.cut.isfinite().all()
    assert scores.isfinite().all() and scores.gt(0.5).any()


@every
def test_a_saved_detector_goes_on_bit_for_bit(kind: type[Trees], settings: dict[str, Any]) -> None:
    x, y, _ = biased(1000)
    detector = make(kind, **settings)
    for rows in torch.arange(700).split(90):
        feed(detector, x[rows], y[rows])
    file = io.BytesIO()
    torch.save(detector.state_dict(), file)
    file.seek(0)
    restored = make(kind, seed=1, **settings)
    restored.score(x, y)
    restored.load_state_dict(torch.load(file, weights_only=True))
    copied = copy.deepcopy(detector)
    for rows in torch.arange(700, 1000).split(90):
        mass = torch.ones(len(rows))
        scores = detector.step(x[rows], y[rows], mass)[0]
        assert scores.gt(0).any()
        assert torch.equal(restored.step(x[rows], y[rows], mass)[0], scores)
        assert torch.equal(copied.step(x[rows], y[rows], mass)[0], scores)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_detector_that_has_routed_rows_takes_other_trees(compiled: bool) -> None:
    if compiled:
        pytest.importorskip("numba")
    x, y = stream(64, 16), torch.arange(64) % 2
    other = make(seed=1, compiled=compiled)
    feed(other, x)
    for used in (False, True):
        detector = make(seed=2, compiled=compiled)
        if used:
            detector.score(x, y)
        detector.load_state_dict(other.state_dict())
        assert torch.equal(detector.score(x, y), other.score(x, y))
    trees = torch.arange(150).view(10, 15) % 16, torch.full((10, 15), 0.5)
    for detector in (fresh := make(compiled=compiled), asked := make(compiled=compiled)):
        if detector is asked:
            detector.score(x, y)
        detector.forest.plant(*trees)
        feed(detector, x)
    assert torch.equal(fresh.score(x, y), asked.score(x, y))


def test_trees_come_from_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = make(seed=5).forest
    torch.manual_seed(2)
    assert torch.equal(first.threshold, make(seed=5).forest.threshold)
    assert not torch.equal(first.threshold, make(seed=6).forest.threshold)


def test_every_split_cuts_what_earlier_splits_left_of_a_feature() -> None:
    feature, threshold = random_trees(20, 7, 3, torch.Generator().manual_seed(0))
    for tree in range(20):
        ranges = {0: [(0.0, 1.0)] * 3}  # by heap number from the stored order of each level
        for k in range(7):
            for j in range(2**k):
                left_of = ranges.pop(2**k - 1 + j)
                d = int(feature[2**k - 1 + j, tree])
                cut = float(threshold[2**k - 1 + j, tree])
                low, high = left_of[d]
                margin = 0.149 * (high - low)
                assert low + margin <= cut <= high - margin
                below, above = list(left_of), list(left_of)
                below[d], above[d] = (low, cut), (cut, high)
                ranges[2 ** (k + 1) - 1 + j] = above
                ranges[2 ** (k + 1) - 1 + j + 2**k] = below


def test_half_precision_features_that_require_gradients_are_welcome() -> None:
    x, y, _ = biased(128)
    x = x.to(torch.bfloat16)
    detector, attached = make(), make()
    feed(detector, x.float(), y)
    with torch.autocast("cpu", torch.bfloat16):
        feed(attached, x.clone().requires_grad_(), y)
        scores = attached.score(x, y)
    assert torch.equal(scores, detector.score(x, y)) and scores.dtype == torch.float32


def test_scoring_in_inference_mode_does_not_tie_the_detector_to_it() -> None:
    x, y, _ = biased(256)
    detector, other = make(), make()
    for rows in torch.arange(256).split(64):
        with torch.inference_mode():
            detector.score(x[rows], y[rows])
        feed(detector, x[rows], y[rows])
        feed(other, x[rows], y[rows])
    assert torch.equal(detector.score(x, y), other.score(x, y))


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (HalfSpaceTrees, {"retention": 1.0}, "retention is 1.0, but must be in"),
        (HalfSpaceTrees, {"prior": 0.0}, "prior is 0.0, but must be above 0"),
        (MassTrees, {"height": 0}, "height is 0"),
        (MassTrees, {"normalizer": "minmax"}, "normalizer is 'minmax'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    kind: type[Trees], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**settings)


def test_wrong_input_is_refused_with_the_mend() -> None:
    x, y, _ = biased(8)
    mass = torch.ones(8)
    with pytest.raises(ValueError, match="call setup"):
        HalfSpaceTrees().learn(x, y, mass)
    with pytest.raises(ValueError, match=r"shape \[8, 15\].*\[rows, 16\]"):
        make().score(x[:, 1:], y)
    with pytest.raises(ValueError, match="targets has shape"):
        make().learn(x, y[:7], mass)
    with pytest.raises(ValueError, match="no posterior"):
        make(MassTrees).posterior(x)
    with pytest.raises(ValueError, match="no trees yet"):
        river_trees(River())
    with pytest.raises(ValueError, match="trees may split on features 0 to 15"):
        make(MassTrees).plant(torch.full((10, 15), 16), torch.full((10, 15), 0.5))
    learned = make(MassTrees)
    feed(learned, x, y)
    with pytest.raises(ValueError, match="after rows were learned"):
        learned.plant(torch.zeros(10, 15), torch.full((10, 15), 0.5))


def test_the_state_of_another_forest_is_refused() -> None:
    state = make().state_dict()
    with pytest.raises(ValueError, match=r"saved open has shape \[16, 10, 5\], not \[32, 10, 5\]"):
        make(height=5).load_state_dict(state)
    with pytest.raises(ValueError, match="call setup"):
        HalfSpaceTrees().load_state_dict(state)


@pytest.mark.gpu
@every
def test_the_device_does_not_matter(kind: type[Trees], settings: dict[str, Any]) -> None:
    x, y, _ = biased(1024)
    detector, moved = make(kind, **settings), make(kind, **settings).to("cuda")
    for rows in torch.arange(1024).split(128):
        mass = torch.ones(128)
        scores = detector.step(x[rows], y[rows], mass)[0]
        theirs = moved.step(x[rows].cuda(), y[rows].cuda(), mass.cuda())[0]
        torch.testing.assert_close(theirs.cpu(), scores, rtol=1e-4, atol=1e-4)
