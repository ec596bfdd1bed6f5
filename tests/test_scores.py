"""Scores from the loss, from offline detectors and from river, and what is kept of them."""

from __future__ import annotations

import functools
import gc
import io
import math
import os
import random
import subprocess
import sys
import threading
import types
import warnings
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from river import anomaly, neighbors
from torch import Tensor, nn

from online_debias.callbacks import Reweight
from online_debias.callbacks.scores.loss_score import LossScore
from online_debias.callbacks.scores.offline_score import OfflineScore
from online_debias.callbacks.scores.river_score import RiverScore
from online_debias.detectors.external.plain_state import decode, encode
from online_debias.detectors.external.river_models import RiverModels
from online_debias.engine import Batch, Callback, Engine
from online_debias.functional.metrics import detection
from online_debias.functional.scores.decision_score import decision_score
from online_debias.functional.scores.loss_score import loss_score
from online_debias.runtime import checkpoint, seeds
from online_debias.training.trainer import Trainer
from tests.conftest import make_images, make_trainer

ROOT = Path(__file__).parents[1]
N, CLASSES, WIDTH = 96, 3, 4
TREES = {"n_trees": 5, "height": 4, "window_size": 8}


class Net(nn.Module):
    """Inputs are the features, at the shallow tap."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1, self.head = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, CLASSES)
        nn.init.eye_(self.stage1.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.stage1(inputs))
        return logits


class Known(Callback):
    """Marks rows as mixed."""

    def __init__(self, mixed: Tensor) -> None:
        super().__init__()
        self.mixed = mixed

    def on_batch(self, batch: Batch) -> None:
        batch.mixed = self.mixed[batch.index]


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def data() -> tuple[Tensor, Tensor]:
    """Inputs `[N, D]` around a centre for each class, some of them far off; and targets."""
    targets = torch.arange(N) % CLASSES
    inputs = torch.randn(N, WIDTH, generator=stream(0)) + 3 * targets[:, None]
    inputs[:6] += 9
    return inputs, targets


def build(*callbacks: Callback, seed: int = 0) -> tuple[Engine, nn.Module]:
    torch.manual_seed(0)
    net = Net()
    return Engine(net, callbacks, n_samples=N, n_classes=CLASSES, seed=seed), net


def step(engine: Engine, net: nn.Module, rows: Tensor) -> Batch:
    inputs, targets = data()
    batch = engine.start_step(rows, inputs[rows], targets[rows])
    engine.loss(batch, net(batch.inputs))
    engine.end_step(batch)
    return batch


def batches(epochs: int, size: int = 16) -> list[Tensor]:
    """Rows of each step; some samples repeat in a batch."""
    drawn = [torch.randperm(N, generator=stream(epoch)) for epoch in range(epochs)]
    rows = [part.clone() for order in drawn for part in order.split(size)]
    for part in rows:
        part[-1] = part[0]
    return rows


def quality(
    callback: Callback, epochs: int, images: int = 240, lr: float = 2e-3
) -> dict[str, float]:
    """How well a run finds the conflicting samples of the small images."""
    data = make_images(images)
    trainer = make_trainer([callback], data, epochs=epochs, batch_size=40, lr=lr)
    trainer.fit()
    assert data.conflicting is not None
    return detection(trainer.engine.run.samples.values("conflict"), data.conflicting)


# The loss.


def test_loss_score_is_the_formula_row_by_row() -> None:
    losses = torch.rand(30, generator=stream(0), dtype=torch.float64) * 5
    expected = [1 - math.exp(-loss) for loss in losses.tolist()]
    assert loss_score(losses).tolist() == pytest.approx(expected)
    assert loss_score(torch.tensor([1e-8])).item() == pytest.approx(1e-8)


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_the_loss_of_a_row_or_of_its_sample_is_published(momentum: float) -> None:
    mixed = torch.arange(N) % 5 == 4
    engine, net = build(LossScore(momentum), Known(mixed))
    head = net.get_submodule("head")
    assert isinstance(head, nn.Linear)
    average: dict[int, float] = {}
    for rows in batches(3):
        batch = step(engine, net, rows)
        assert batch.logits is not None
        losses: dict[int, list[float]] = defaultdict(list)
        own = []
        for row in range(len(rows)):
            p = batch.logits[row].softmax(0)[batch.targets[row]].item()
            losses[int(rows[row])].append(-math.log(p))
            own.append(-math.log(p))
        for sample, seen in losses.items():
            mean = sum(seen) / len(seen)
            old = average.get(sample, mean)
            average[sample] = momentum * old + (1 - momentum) * mean
        expected = [
            0.0 if mixed[sample] else 1 - math.exp(-(average[sample] if momentum else loss))
            for sample, loss in zip(rows.tolist(), own, strict=True)
        ]
        found = batch.signals["conflict"]
        assert found.tolist() == pytest.approx(expected, abs=1e-6) and max(expected) > 0.3
        with torch.no_grad():
            head.weight.mul_(0.9)  # the losses change from step to step


@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_the_loss_finds_conflicting_images(momentum: float) -> None:
    assert quality(LossScore(momentum), epochs=5, lr=8e-3)["auroc"] > 0.8


# Offline detectors.


class Distance:
    """A detector as PyOD's are: distance from the mean, the threshold at a quantile."""

    def __init__(self, contamination: float = 0.1) -> None:
        self.contamination = contamination

    def fit(self, x: Any, y: object = None) -> Distance:
        self.mean = x.mean(0)
        self.decision_scores_ = self.decision_function(x)
        self.threshold_ = np.quantile(self.decision_scores_, 1 - self.contamination)
        return self

    def decision_function(self, x: Any) -> Any:
        return np.linalg.norm(x - self.mean, axis=1)


class Inwards(Distance):
    """The same distance with scikit-learn's sign."""

    _estimator_type = "outlier_detector"

    def fit(self, x: Any, y: object = None) -> Inwards:
        self.mean, self.threshold = x.mean(0), 0.0
        self.threshold = -np.quantile(self.decision_function(x), self.contamination)
        return self

    def decision_function(self, x: Any) -> Any:
        return -np.linalg.norm(x - self.mean, axis=1) + self.threshold


def test_decision_score_is_the_formula_row_by_row() -> None:
    excess = torch.randn(31, generator=stream(0), dtype=torch.float64) * 40
    unit = sorted(abs(value) for value in excess.tolist())[15]
    expected = [1 / (1 + math.exp(-value / unit)) for value in excess.tolist()]
    assert decision_score(excess).tolist() == pytest.approx(expected)
    assert decision_score(torch.zeros(3)).tolist() == [0.5] * 3
    mostly_on = decision_score(torch.tensor([0.0, 0.0, 0.0, 8.0]))
    assert mostly_on.tolist() == pytest.approx([0.5, 0.5, 0.5, 1 / (1 + math.exp(-4))])


def of_class(detector: Any, target: int, sign: int, rows: Tensor | None = None) -> Tensor:
    """The scores that a detector of one's own gives to a class."""
    inputs, targets = data()
    own = targets == target
    if rows is not None:
        own &= torch.zeros(N, dtype=torch.bool).index_fill_(0, rows, True)
    x = inputs[own].double().numpy()
    x = (x - x.mean(0)) / x.std(0)
    detector.fit(x)
    boundary = 0.0 if sign < 0 else detector.threshold_
    excess = torch.from_numpy(sign * detector.decision_function(x) - boundary)
    return decision_score(excess).float()


@pytest.mark.parametrize("case", ["svm", "forest", "pyod-like"])
def test_an_epochs_features_give_the_next_epochs_scores(case: str) -> None:
    from sklearn.ensemble import IsolationForest
    from sklearn.svm import OneClassSVM

    path, arguments, kind, sign = {
        "svm": ("sklearn.svm.OneClassSVM", {"nu": 0.2}, OneClassSVM, -1),
        "forest": ("sklearn.ensemble.IsolationForest", {"random_state": 3}, IsolationForest, -1),
        "pyod-like": ("tests.test_scores.Distance", {"contamination": 0.2}, Distance, 1),
    }[case]
    score = OfflineScore(path, arguments)  # type: ignore[arg-type]
    engine, net = build(score)
    for rows in batches(1):
        assert not step(engine, net, rows).signals["conflict"].any()
    engine.end_epoch()
    rows = torch.arange(N)
    seen = torch.cat(batches(1)).unique()
    found = step(engine, net, rows).signals["conflict"]
    for target in range(CLASSES):
        own = seen[seen % CLASSES == target]
        expected = of_class(kind(**arguments), target, sign, own)  # type: ignore[operator]
        torch.testing.assert_close(found[own], expected)
        assert expected.max() > 0.5 > expected.min()
    unseen = torch.ones(N, dtype=torch.bool).index_fill_(0, seen, False)
    assert len(seen) < N and not found[unseen].any()
    far = (rows < 6) & ~unseen
    assert found[far].mean() > found[~far].mean() + 0.2


@pytest.mark.parametrize("kind", ["decomposition", "covariance", "neighbors"])
def test_the_far_rows_score_highest_whatever_the_library(kind: str) -> None:
    path, arguments = {
        "decomposition": ("sklearn.linear_model.SGDOneClassSVM", {"nu": 0.1}),
        "covariance": ("sklearn.covariance.EllipticEnvelope", {"support_fraction": 0.8}),
        "neighbors": ("sklearn.neighbors.LocalOutlierFactor", {"novelty": True}),
    }[kind]
    assert far_rows_stand_out(OfflineScore(path, arguments))


@pytest.mark.parametrize("name", ["ecod.ECOD", "iforest.IForest", "knn.KNN"])
def test_detectors_of_pyod(name: str) -> None:
    pytest.importorskip("pyod")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of its own dependencies
        assert far_rows_stand_out(OfflineScore(f"pyod.models.{name}", {"contamination": 0.1}))


def far_rows_stand_out(score: Callback) -> bool:
    engine, net = build(score)
    step(engine, net, torch.arange(N))
    engine.end_epoch()
    found = step(engine, net, torch.arange(N)).signals["conflict"]
    assert found.min() >= 0 and found.max() <= 1
    if "SGD" in score.kind.__name__:  # type: ignore[union-attr, operator]
        return bool(found.std() > 0)  # a plane through the data: no distance from it
    return bool(found[:6].min() > found[6:].quantile(0.9))


def test_mixed_rows_teach_nothing_and_score_nothing() -> None:
    mixed = torch.arange(N) < 6
    score = OfflineScore("tests.test_scores.Distance")
    engine, net = build(score, Known(mixed))
    for rows in batches(1):
        step(engine, net, rows)
    assert not score.seen[:6].any() and not score.features[:6].any()
    engine.end_epoch()
    assert not score.scores[:6].any() and score.scores[6:-1].any()
    score.scores.fill_(0.9)
    found = step(engine, net, torch.arange(12)).signals["conflict"]
    assert found.tolist() == pytest.approx([0.0] * 6 + [0.9] * 6)


def test_it_fits_every_so_many_epochs() -> None:
    score = OfflineScore("tests.test_scores.Distance", every=2)
    engine, net = build(score)
    published = []
    for epoch in range(5):
        for rows in batches(1):
            batch = step(engine, net, rows)
        published.append(batch.signals["conflict"])
        assert bool(score.seen.any()) == (epoch % 2 == 1)
        engine.end_epoch()
        assert not score.seen.any()
    assert not published[0].any() and not published[1].any()
    assert published[2].any() and torch.equal(published[2], published[3])


def test_a_sample_that_an_epoch_did_not_show_keeps_its_score() -> None:
    score = OfflineScore("tests.test_scores.Distance")
    engine, net = build(score)
    step(engine, net, torch.arange(N))
    engine.end_epoch()
    before = score.scores.clone()
    step(engine, net, torch.arange(N // 2))
    engine.end_epoch()
    assert torch.equal(score.scores[N // 2 : -1], before[N // 2 : -1])
    assert not torch.equal(score.scores[: N // 2], before[: N // 2])


def test_a_class_of_one_distinct_row_scores_nothing() -> None:
    score = OfflineScore()
    engine, net = build(score)
    step(engine, net, torch.tensor([0, 3, 6, 9, 12, 1, 1, 2]))  # one sample of class 1 and 2
    score.features[score.targets == 0] = 1.5
    engine.end_epoch()
    assert not score.scores.any()


def test_a_detector_that_fails_says_on_which_rows() -> None:
    score = OfflineScore("tests.test_scores.Fails")
    engine, net = build(score)
    step(engine, net, torch.arange(N))
    with pytest.raises(RuntimeError, match="not today") as caught:
        engine.end_epoch()
    assert notes(caught.value) in (["fitting Fails to 32 rows of a class"], None)


def notes(error: BaseException) -> list[str] | None:
    """What was added to an error on its way, the engine's own word left out; None before 3.11."""
    added = getattr(error, "__notes__", None)
    return added and [note for note in added if not note.startswith("in callback")]


class Fails(Distance):
    def fit(self, x: Any, y: object = None) -> Distance:
        raise RuntimeError("not today")


def test_random_detectors_are_seeded_by_the_run() -> None:
    found = []
    for seed in (0, 0, 1):
        score = OfflineScore("sklearn.ensemble.IsolationForest", {"n_estimators": 5})
        engine, net = build(score, seed=seed)
        step(engine, net, torch.arange(N))
        engine.end_epoch()
        found.append(score.scores.clone())
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_an_offline_detector_finds_conflicting_images() -> None:
    assert quality(OfflineScore(), epochs=4)["auroc"] > 0.8


# river.


def late_loop(lag: int, rates: list[Tensor], mixed: Tensor, epochs: int = 3) -> list[list[float]]:
    """What is published when everything is done in one loop; draws are repeated by their seed."""
    inputs, targets = data()
    models = [
        anomaly.HalfSpaceTrees(**TREES, seed=seeds.derive(0, "river_score", target) % 2**32)
        for target in range(CLASSES)
    ]
    mean = [torch.zeros(WIDTH, dtype=torch.float64) for _ in range(CLASSES)]
    square = [torch.zeros(WIDTH, dtype=torch.float64) for _ in range(CLASSES)]
    total = [0.0] * CLASSES
    known: dict[int, float] = {}
    pending: list[dict[int, float]] = []
    published = []
    for number, rows in enumerate(batches(epochs)):
        draws = torch.rand(len(rows), generator=seeds.generator("cpu", 0, "river_score", number))
        scores = {}
        for target in range(CLASSES):
            own = [r for r in range(len(rows)) if targets[rows[r]] == target and not mixed[rows[r]]]
            if not own:
                continue
            x = inputs[rows[own]].double()
            fade = 0.999 ** len(own)
            weight = fade * total[target] + len(own)
            new = (fade * total[target] * mean[target] + x.sum(0)) / weight
            square[target] = fade * (
                square[target] + total[target] * (mean[target] - new).square()
            ) + (x - new).square().sum(0)
            mean[target], total[target] = new, weight
            for r, row in zip(own, x, strict=True):
                z = (row - new) / (square[target] / weight).sqrt()
                unit = [0.5 * (1 + math.erf(value / 2**0.5)) for value in z.tolist()]
                features = dict(enumerate(unit))
                scores[int(rows[r])] = models[target].score_one(features)
                if draws[r] < 1 / rates[number][r]:
                    models[target].learn_one(features)
        pending.append(scores)
        if len(pending) > lag:
            known |= pending.pop(0)
        published.append([0.0 if mixed[s] else known.get(s, 0.0) for s in rows.tolist()])
    return published


@pytest.mark.parametrize("lag", [0, 1, 4])
@pytest.mark.parametrize("resampled", [False, True])
def test_river_scores_equal_a_plain_loop(lag: int, resampled: bool) -> None:
    mixed = torch.arange(N) % 7 == 3
    score = RiverScore(arguments=TREES, lag=lag)
    engine, net = build(score, Known(mixed))
    if resampled:
        engine.run.tables["by hand"] = torch.where(torch.arange(N) % 2 == 0, 3.0, 1.0)
        engine.sampling.indices()
    found, rates = [], []
    for rows in batches(3):
        batch = step(engine, net, rows)
        found.append(batch.signals["conflict"].tolist())
        rates.append(batch.rate)
    engine.end_fit()
    assert bool((rates[0] > 1).any()) == resampled
    expected = late_loop(lag, rates, mixed)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)
    assert max(expected[-1]) > 0.2


def test_a_lag_changes_when_scores_are_known_and_nothing_else() -> None:
    tables: dict[int, list[Tensor]] = {0: [], 4: []}
    for lag, seen in tables.items():
        score = RiverScore(arguments=TREES, lag=lag)
        engine, net = build(score)
        for rows in batches(3):
            step(engine, net, rows)
            seen.append(score.known.table.clone())
        engine.end_fit()
    assert tables[4][3].isnan().all()
    for now, later in zip(tables[0], tables[4][4:], strict=False):
        assert torch.equal(now.nan_to_num(-1), later.nan_to_num(-1))


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        ("river.anomaly.LocalOutlierFactor", {"n_neighbors": 3}),
        ("river.anomaly.LODA", {"n_random_cuts": 20}),
        ("river.anomaly.OneClassSVM", {"nu": 0.1}),
        (
            "river.anomaly.QuantileFilter",
            {"anomaly_detector": anomaly.LODA(n_random_cuts=5, seed=1), "q": 0.9},
        ),
    ],
)
def test_scores_of_any_detector_end_up_between_0_and_1(
    path: str, arguments: dict[str, Any]
) -> None:
    score = RiverScore(path, arguments, lag=1)
    engine, net = build(score)
    found = torch.cat([step(engine, net, rows).signals["conflict"] for rows in batches(3)])
    state = score.get_extra_state()
    engine.end_fit()
    assert found.min() >= 0 and found.max() <= 1 and len(found.unique()) > 20
    again = RiverScore(path, arguments, lag=1)
    other, _ = build(again)
    again.set_extra_state(through_a_file(state))
    for model, loaded in zip(score.models.models, again.models.models, strict=True):
        row = dict.fromkeys(range(WIDTH), 0.3)
        assert model.score_one(row) == loaded.score_one(row)


class First:
    """Its score is a multiple of the first feature; counts what it learned."""

    learned = 0

    def score_one(self, x: dict[int, float]) -> float:
        return 100 * x[0]

    def learn_one(self, x: dict[int, float]) -> None:
        self.learned += 1


def test_unbounded_scores_reach_one_half_two_deviations_above_the_mean() -> None:
    models = RiverModels([First(), First()], bounded=False, allowed=("tests.",))
    raw: list[float] = []
    for number in range(4):
        x = torch.randn(9, 2, generator=stream(number))
        plain, learns = torch.arange(9) != 3, torch.arange(9) % 2 == 0
        targets = (torch.arange(9) > 6).long()
        found = models.step(x, targets, plain, learns)
        assert found[3] == 0
        unit = models.features[0]
        assert unit is not None
        z = (x[:7, 0] - unit.mean[0]) / (unit.square[0] / unit.total).sqrt()
        scores = [50 * (1 + math.erf(value / 2**0.5)) for value in z.tolist()]
        del scores[3]
        raw += scores
        age = range(len(raw) - 1, -1, -1)  # rows of a batch are of one age
        weight = [0.999 ** (6 * (one // 6)) for one in age]
        mean = sum(w * v for w, v in zip(weight, raw, strict=True)) / sum(weight)
        spread = sum(w * (v - mean) ** 2 for w, v in zip(weight, raw, strict=True)) / sum(weight)
        expected = [(1 + math.erf(((v - mean) / spread**0.5 - 2) / 2**0.5)) / 2 for v in scores]
        own = [row for row in range(7) if row != 3]
        assert found[own].tolist() == pytest.approx(expected, rel=1e-4)
    assert [model.learned for model in models.models] == [16, 4]


def test_classes_have_trees_of_their_own() -> None:
    score = RiverScore(arguments=TREES)
    build(score)
    states = [model.rng.getstate() for model in score.models.models]
    assert len(set(states)) == CLASSES
    fixed = RiverScore(arguments={**TREES, "seed": 5})
    build(fixed, seed=3)
    other = RiverScore(arguments={**TREES, "seed": 5})
    build(other, seed=4)
    assert fixed.models.models[1].rng.getstate() == other.models.models[1].rng.getstate()
    assert score.arguments == TREES


def river_trainer(epochs: int = 3) -> Trainer:
    callbacks = [RiverScore(arguments=TREES, lag=3), Reweight(limit=5)]
    return make_trainer(callbacks, epochs=epochs, batch_size=40)


def whole_state(trainer: Trainer) -> dict[str, Any]:
    score = trainer.engine.callbacks[0]
    assert isinstance(score, RiverScore)
    return {**trainer.model.state_dict(), "known": score.known.table, "river": models_of(score)}


def models_of(score: RiverScore) -> Any:
    return [
        [(node.l_mass, node.r_mass) for nodes in model._tree_nodes for node in nodes]
        + [model.counter, model.rng.getstate()]
        for model in score.models.models
    ]


@pytest.mark.parametrize("stop", [1, 5, 8, 14])
def test_a_resumed_run_with_river_is_the_same_to_the_last_bit(stop: int, tmp_path: Path) -> None:
    whole = river_trainer()
    whole.fit()
    first = river_trainer()
    first.epochs, rest = divmod(stop, 6)
    if first.epochs:
        first.fit()
    first.model.train()
    for _, batch in zip(range(rest), first.loader, strict=False):
        first._step(*batch)
    checkpoint.save(tmp_path / "last.pt", first.state_dict())
    second = river_trainer()
    second.load_state_dict(checkpoint.load(tmp_path / "last.pt"))
    second.fit()
    expected, found = whole_state(whole), whole_state(second)
    assert expected.pop("river") == found.pop("river")
    for name, value in expected.items():
        assert torch.equal(value.nan_to_num(-1), found[name].nan_to_num(-1)), name
    assert expected["known"].nan_to_num().any()


def test_a_state_of_other_detectors_is_refused() -> None:
    score = RiverScore(arguments=TREES)
    build(score)
    other = RiverScore("river.anomaly.LODA")
    build(other)
    with pytest.raises(ValueError, match="of 3 other detectors than the 3 LODA of this run"):
        other.set_extra_state(score.get_extra_state())


class Breaks(anomaly.HalfSpaceTrees):  # type: ignore[misc]
    """Fails on its 30th row; counted over the copies of one process."""

    def learn_one(self, x: Any) -> None:
        super().learn_one(x)
        if self.counter == 30:
            raise ZeroDivisionError("inside river")


class Slow(anomaly.HalfSpaceTrees):  # type: ignore[misc]
    """Waits before it scores until the test says so."""

    gate = threading.Event()

    def score_one(self, x: Any) -> Any:
        assert self.gate.wait(20)
        return super().score_one(x)


def test_an_error_inside_river_is_raised_in_the_next_hook() -> None:
    score = RiverScore(
        "tests.test_scores.Breaks", {**TREES, "window_size": 99}, lag=50, name="fails"
    )
    engine, net = build(score)
    with pytest.raises(ZeroDivisionError, match="inside river") as caught:
        for rows in batches(9):
            step(engine, net, rows)
            if score._waiting[-1].scores.exception():  # waits; the next step must raise
                failed = engine.run.step - 1
    assert notes(caught.value) in (
        [f"in the thread of 'fails', on the batch of step {failed}"],
        None,
    )
    assert engine.run.step == failed + 1
    with pytest.raises(ZeroDivisionError):
        engine.end_fit()
    assert not running("fails")


def running(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


def test_training_waits_only_when_the_thread_is_further_behind_than_the_lag() -> None:
    Slow.gate.set()
    score = RiverScore("tests.test_scores.Slow", TREES, lag=3)
    Slow.gate.clear()
    engine, net = build(score)
    steps = threading.Thread(
        target=lambda: [step(engine, net, rows) for rows in batches(1)[:4]], daemon=True
    )
    steps.start()
    for _ in range(200):
        steps.join(0.05)
        if engine.run.step == 3:
            break
    steps.join(0.2)
    assert engine.run.step == 3 and steps.is_alive()  # the fourth step needs the first's scores
    Slow.gate.set()
    steps.join(20)
    assert engine.run.step == 4
    engine.end_fit()


def test_the_thread_ends_with_the_fit_and_comes_back_with_the_next() -> None:
    score = RiverScore(arguments=TREES, name="watched")
    engine, net = build(score)
    step(engine, net, torch.arange(16))
    assert len(running("watched")) == 1
    engine.end_fit()
    assert not running("watched")
    step(engine, net, torch.arange(16))
    assert len(running("watched")) == 1
    thread = running("watched")[0]
    del engine, score  # a run that failed ends no fit
    gc.collect()
    thread.join(20)
    assert not thread.is_alive()


def test_a_run_that_failed_ends_its_process() -> None:
    code = (
        "from tests.test_scores import *\n"
        "engine, net = build(RiverScore(arguments=TREES))\n"
        "step(engine, net, torch.arange(16))\n"
        "raise SystemExit(7)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60)
    assert done.returncode == 7


def test_it_says_how_late_scores_are() -> None:
    engine, net = build(RiverScore(arguments=TREES, lag=3))
    step(engine, net, torch.arange(16))
    scalars = {scalar.name: scalar.value for scalar in engine.recorder.flush()}
    assert scalars["detect/river_lag"] == 3 and scalars["detect/mean_score"] == 0
    engine.end_fit()


def test_river_finds_conflicting_images() -> None:
    assert quality(RiverScore(lag=2), epochs=5, images=480)["auroc"] > 0.8


# Plain state.


def through_a_file(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize(
    "model",
    [
        anomaly.HalfSpaceTrees(n_trees=3, height=3, window_size=7, seed=1),
        anomaly.HalfSpaceTrees(height=2, limits={0: (-1.0, 2.0)}, window_size=5, seed=2),
        anomaly.LocalOutlierFactor(n_neighbors=3),
        anomaly.LocalOutlierFactor(3, neighbors.LazySearch(window_size=9)),
        anomaly.OneClassSVM(nu=0.2),
        anomaly.LODA(n_random_cuts=5, seed=3),
        anomaly.QuantileFilter(anomaly.OneClassSVM(), q=0.9),
        anomaly.ThresholdFilter(anomaly.HalfSpaceTrees(height=2, seed=4), threshold=0.9),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_model_goes_on_as_if_it_had_not_been_encoded(model: Any) -> None:
    draw = random.Random(0)
    rows = [{i: draw.random() for i in range(4)} for _ in range(60)]
    for row in rows[:20]:
        model.learn_one(row)
    other = decode(through_a_file(encode(model)))
    assert type(other) is type(model) and other is not model
    for row in rows[20:]:
        assert model.score_one(row) == other.score_one(row)
        model.learn_one(row)
        other.learn_one(row)


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, None, True, "b", -(2**70)], 3: (float("inf"), {4}, frozenset({5}))},
        deque([1, (2,)], maxlen=4),
        Counter("abca"),
        OrderedDict(b=1, a=[2]),
        {"bytes": b"\x00\xff", "complex": 1 + 2j, "type": int},
        {(1, "a"): [[], {}], None: ()},
        np.float64(0.1),
        np.int32(-4),
    ],
)
def test_values_come_back_as_they_were(value: Any) -> None:
    found = decode(through_a_file(encode(value)))
    assert found == value and type(found) is type(value)
    assert getattr(found, "maxlen", 0) == getattr(value, "maxlen", 0)


def test_arrays_random_streams_and_factories_come_back() -> None:
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    stream = random.Random(3)
    stream.gauss(0, 1)
    table: Any = defaultdict(functools.partial(tuple, (0.0, 1.0)), {1: 2})
    one, two, three = decode(through_a_file(encode([array, stream, table])))
    assert one.dtype == array.dtype and np.array_equal(one, array)
    one[0, 0] = 9
    assert array[0, 0] == 0
    assert [two.gauss(0, 1) for _ in range(3)] == [stream.gauss(0, 1) for _ in range(3)]
    assert three[1] == 2 and three["new"] == (0.0, 1.0) and "new" not in table


class Node:
    """A part of a chain, with and without a `__dict__`."""

    __slots__ = ("next", "back", "__dict__")


def test_shared_and_circular_references_are_kept() -> None:
    first = Node()
    node = first
    for number in range(3000):  # longer than the stack is deep
        node.next, node.number = Node(), number  # type: ignore[attr-defined]
        node.next.back = node
        node = node.next
    shared: list[Any] = []
    shared.append((shared, first))
    own, (again, chain) = (found := decode(encode(shared, ("tests.",)), ("tests.",))), found[0]
    assert again is own
    for number in range(3000):
        assert chain.number == number and chain.next.back is chain
        chain = chain.next


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (threading.Lock(), "_thread.lock"),
        (lambda x: x, "<lambda>"),
        (os.getcwd, "getcwd"),
        (np.random.default_rng(0), "numpy.random._generator.Generator"),
        (np.array([object()]), "numpy array of object"),
        (random.SystemRandom(), "random.SystemRandom"),
        (nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        (Path("x"), "pathlib.PosixPath"),
        ((number for number in ()), "builtins.generator"),
        (types.SimpleNamespace(a=1), "types.SimpleNamespace"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_decoded_is_not_encoded(value: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.* cannot be kept in a checkpoint without pickle"):
        encode({"model": [value]})


def malicious(make: list[Any], how: str = "call", arguments: tuple[Any, ...] = ()) -> Any:
    """A state that wants `make(*arguments)`."""
    return {"parts": [[how, (1,), None, list(arguments), [], [], []], make], "root": (0,)}


@pytest.mark.parametrize(
    "name",
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("builtins", "type"),
        ("builtins", "object"),
        ("subprocess", "Popen"),
        ("river_evil", "Model"),
        ("river", "anomaly"),
        ("river.anomaly", "hst.functools.partial"),
        ("river.anomaly.hst", "random.Random"),
        ("river.anomaly.hst", "functools"),
        ("river.anomaly.nowhere", "Model"),
        ("river.anomaly.hst", "HalfSpaceTrees.nothing"),
        ("river.anomaly.hst", "random._os.system"),
    ],
)
@pytest.mark.parametrize("how", ["call", "new"])
def test_a_state_that_names_anything_else_is_refused(name: tuple[str, str], how: str) -> None:
    state = malicious(["name", *name], how, ("echo no",))
    with pytest.raises(ValueError, match=f"names {'.'.join(name)}, which is not a class or func"):
        decode(through_a_file(state))


def test_functions_and_metaclasses_are_never_called() -> None:
    for name in (
        ("river._river_rust.vectordict", "euclidean_distance_tuple"),
        ("river.tree.padded", "make_padded_tree"),
        ("river.base.estimator", "EstimatorMeta"),
    ):
        with pytest.raises(ValueError, match="wants to call .*, which is not a class"):
            decode(malicious(["name", *name]))
    with pytest.raises(ValueError, match="which is not a class"):
        decode(malicious(["list"]))


def test_a_function_in_the_state_does_not_stand_in_for_a_method() -> None:
    parts = [
        ["new", (1,), (2,), [], ["x"], [], []],
        ["name", "river.tree.padded", "PaddedLeaf"],
        ["dict", ["append"], [(3,)]],
        ["name", "river.tree.padded", "make_padded_tree"],
    ]
    with pytest.raises(AttributeError, match="'PaddedLeaf' has no attribute 'append'"):
        decode({"parts": parts, "root": (0,)})


def test_damaged_states_are_refused() -> None:
    with pytest.raises(ValueError, match="damaged: a part of it is made from itself"):
        decode({"parts": [["tuple", (0,)]], "root": (0,)})
    with pytest.raises(ValueError, match="damaged: it has a part of the kind 'pickle'"):
        decode({"parts": [["pickle", "x"]], "root": (0,)})


def test_a_checkpoint_of_river_holds_no_pickled_object() -> None:
    score = RiverScore(arguments=TREES)
    engine, net = build(score)
    for rows in batches(1):
        step(engine, net, rows)
    state = engine.state_dict()
    assert through_a_file(state)["callbacks"].keys() == {"river_score"}
    engine.end_fit()


# Arguments.


class Unkept(anomaly.HalfSpaceTrees):  # type: ignore[misc]
    """Holds what no checkpoint can."""

    def learn_one(self, x: Any) -> None:
        self.lock = threading.Lock()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LossScore(momentum=1.0), "LossScore: momentum is 1.0, expected 0 <= momentum < 1"),
        (lambda: OfflineScore(every=0), "OfflineScore: every is 0, expected at least 1 epoch"),
        (
            lambda: OfflineScore("sklearn.svm.OneClassSWM"),
            "OfflineScore: detector is 'sklearn.svm.OneClassSWM', expected the import path of a "
            "class .*no attribute",
        ),
        (lambda: OfflineScore("nowhere.Svm"), "expected the import path of a class .*No module"),
        (lambda: OfflineScore("OneClassSVM"), "expected the import path of a class .*Empty"),
        (lambda: OfflineScore("os.getcwd"), "'os.getcwd', expected the import path of a class."),
        (lambda: OfflineScore("sklearn.svm.SVC"), "'sklearn.svm.SVC' .*expected an anomaly detect"),
        (lambda: OfflineScore("collections.deque"), "'collections.deque' .*expected an anomaly"),
        (
            lambda: OfflineScore("sklearn.neighbors.LocalOutlierFactor"),
            "expected an anomaly detector with fit and decision_function, as LocalOutlierFactor "
            "has with novelty=True",
        ),
        (
            lambda: OfflineScore(arguments={"mu": 0.1}),
            r"OfflineScore: OneClassSVM does not take the arguments \{'mu': 0.1\} \(.*mu",
        ),
        (
            lambda: OfflineScore(arguments={"nu": 3.0}),
            r"OfflineScore: OneClassSVM does not take the arguments \{'nu': 3.0\} \(.*nu",
        ),
        (lambda: RiverScore(lag=-1), "RiverScore: lag is -1, expected a number of steps >= 0"),
        (lambda: RiverScore("river.anomaly.Trees"), "'river.anomaly.Trees', expected the import"),
        (
            lambda: RiverScore("river.anomaly.GaussianScorer"),
            "'river.anomaly.GaussianScorer', expected an anomaly detector of river's that learns "
            "from features alone",
        ),
        (lambda: RiverScore("sklearn.svm.OneClassSVM"), "expected an anomaly detector of river's"),
        (
            lambda: RiverScore(arguments={"trees": 3}),
            r"RiverScore: HalfSpaceTrees does not take the arguments \{'trees': 3\} \(.*trees",
        ),
        (
            lambda: RiverScore(arguments={"n_trees": "many"}),
            r"RiverScore: HalfSpaceTrees does not take the arguments \{'n_trees': 'many'\}",
        ),
        (
            lambda: RiverScore("tests.test_scores.Unkept"),
            "RiverScore: _thread.lock cannot be kept in a checkpoint without pickle",
        ),
    ],
)
def test_arguments_out_of_range_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
