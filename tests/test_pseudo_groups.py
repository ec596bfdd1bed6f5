"""Pseudo-groups of validation images: what the biased view says of them, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from online_debias.callbacks import BiasProbe, ConflictScore, ShortcutScore
from online_debias.detectors import BestViews, Centroid, HalfSpaceTrees, Loda, MassTrees
from online_debias.engine import Callback, Engine
from online_debias.taps.taps import Tap
from online_debias.training.evaluation import measure
from online_debias.training.pseudo_groups import pseudo_group_metrics, watched
from online_debias.training.trainer import Trainer
from online_debias.views import CellView, ShortcutTest
from tests.conftest import make_images, make_recipe, make_trainer
from tests.test_trainer import state

SEERS = {
    "trees": lambda: ConflictScore(HalfSpaceTrees(n_trees=10, fold=64)),
    "loda": lambda: ConflictScore(Loda(fold=64)),
    "centroid": lambda: ConflictScore(Centroid(fold=64)),
    "best views": lambda: ConflictScore(
        BestViews(grids=(1, 3), scan=128, fold=64, n_trees=8), tap="grid"
    ),
    "probe": lambda: BiasProbe(),
}


def trained(callbacks: list[Callback]) -> Trainer:
    one = make_trainer(
        callbacks,
        epochs=4,
        batch_size=40,
        lr=3e-3,
        taps={"grid": Tap("stage1", pool=3)},
        evaluate_on={"validation": make_images(200, 0.8, 1)},
    )
    one.fit()
    return one


def slowly(predictions: Tensor, targets: Tensor, view: Tensor) -> dict[str, float]:
    """The definition, image by image."""
    rows = list(zip(predictions.tolist(), targets.tolist(), view.tolist(), strict=True))
    found: dict[str, float] = {}
    halves = []
    for name, side in (
        ("aligned", [(p == y, y) for p, y, v in rows if v == y]),
        ("conflicting", [(p == y, y) for p, y, v in rows if v != y]),
    ):
        if side:
            mean = sum(right for right, _ in side) / len(side)
            cells = []
            for label in {y for _, y in side}:
                own = [right for right, y in side if y == label]
                cells.append((sum(own) + 5 * mean) / (len(own) + 5))
            found[f"accuracy_pseudo_{name}"] = mean
            halves.append(sum(cells) / len(cells))
    if len(halves) == 2:
        found["accuracy_pseudo_unbiased"] = (halves[0] + halves[1]) / 2
    return found


@pytest.mark.parametrize("agreeing", [0.0, 0.5, 0.9, 1.0])
def test_metrics_are_the_definition_image_by_image(agreeing: float) -> None:
    for seed in range(5):
        stream = torch.Generator().manual_seed(seed)
        targets = torch.randint(4, (50,), generator=stream)
        targets[targets == 2] = 3  # a class without images
        other = (targets + torch.randint(1, 6, (50,), generator=stream)) % 6
        view = torch.where(torch.rand(50, generator=stream) < agreeing, targets, other)
        predictions = torch.where(torch.rand(50, generator=stream) < 0.6, targets, other)
        expected = slowly(predictions, targets, view)
        assert pseudo_group_metrics(predictions, targets, view) == pytest.approx(expected)
        assert ("accuracy_pseudo_unbiased" in expected) == (0 < agreeing < 1)


def test_with_many_images_it_is_the_mean_over_cells_and_one_image_moves_it_little() -> None:
    targets = torch.arange(4).repeat(1000)
    view = torch.where(torch.arange(4000) < 2000, targets, (targets + 1) % 4)
    predictions = torch.where((targets == 0) & (view != 0), 1, targets)
    found = pseudo_group_metrics(predictions, targets, view)["accuracy_pseudo_unbiased"]
    assert found == pytest.approx(7 / 8, abs=2e-3)

    few = torch.cat([torch.arange(400), torch.tensor([400, 404, 408, 401])])
    y, v = few % 4, torch.where(few < 400, few % 4, (few + 1) % 4)
    with_it = pseudo_group_metrics(y, y, v)["accuracy_pseudo_unbiased"]
    wrong = torch.where(torch.arange(404) == 403, 3, y)  # the only one of its cell
    without = pseudo_group_metrics(wrong, y, v)["accuracy_pseudo_unbiased"]
    assert with_it == 1.0
    assert 0.8 < without < 0.9  # a plain mean over cells would be .75


@pytest.mark.parametrize("seer", SEERS)
def test_what_is_seen_is_mostly_the_true_bias_and_nothing_is_learned(seer: str) -> None:
    one = trained([SEERS[seer]()])
    before = {name: value.clone() for name, value in state(one).items()}
    extra = one.engine.state_dict()["callbacks"]
    data = make_images(300, 0.5, 3)
    assert data.bias is not None
    with watched(one.engine, one.model) as seen:
        one.model(data.to_float(data.images[:100]))
        one.model(data.to_float(data.images[100:]))
    view = torch.cat(seen)
    assert [len(part) for part in seen] == [100, 200] and view.dtype == torch.int64
    assert (view == data.bias).float().mean() > 0.8
    assert (view == data.targets).float().mean() < 0.75
    for name, value in state(one).items():
        assert torch.equal(value.nan_to_num(-1), before[name].nan_to_num(-1)), name
    assert str(one.engine.state_dict()["callbacks"]) == str(extra)


def test_the_report_on_validation_has_pseudo_groups_and_others_have_none() -> None:
    one = trained([SEERS["trees"]()])
    data = make_images(200, 0.8, 1)
    found = one.reports["validation"].metrics
    with watched(one.engine, one.model) as seen:
        predictions = one.model(data.to_float(data.images)).argmax(1)
    expected = pseudo_group_metrics(predictions, data.targets, torch.cat(seen))
    assert {name: found[name] for name in expected} == expected and len(expected) == 3
    test = measure("test", one.engine, one.model, data, one.format).metrics
    assert test == {name: value for name, value in found.items() if name not in expected}


@pytest.mark.parametrize(
    "callbacks",
    [
        lambda: [],
        lambda: [ConflictScore(MassTrees(n_trees=10))],
        lambda: [ConflictScore(HalfSpaceTrees(n_trees=10, fold=10**6))],  # never ready
    ],
)
def test_without_a_biased_view_there_are_no_pseudo_groups(callbacks: Any) -> None:
    metrics = trained(callbacks()).reports["validation"].metrics
    assert not [name for name in metrics if "pseudo" in name]


def test_a_probe_that_has_just_begun_sees_nothing() -> None:
    one = make_trainer([BiasProbe()], batch_size=40)
    features = {"shallow": torch.zeros(2, one.engine.run.width("shallow"))}
    inputs = torch.zeros(2, 3, 8, 8)
    assert one.engine.predict_bias(features, inputs) is None
    one.engine.run.step = 10
    assert one.engine.predict_bias(features, inputs) is not None


def test_being_judged_changes_no_bit_of_a_run() -> None:
    watched_run, alone = (
        make_trainer(make_recipe(), epochs=3, batch_size=40, evaluate_on=splits)
        for splits in ({"validation": make_images(60, 0.8, 1)}, {"test": make_images(60, 0.8, 1)})
    )
    for one in (watched_run, alone):
        one.fit()
    assert "accuracy_pseudo_aligned" in watched_run.reports["validation"].metrics
    expected = state(alone)
    for name, value in state(watched_run).items():
        assert torch.equal(value.nan_to_num(-1), expected[name].nan_to_num(-1)), name


class Seer(Callback):
    """Sees what it is told, in the features of a tap."""

    def __init__(self, name: str, tap: str, says: int | None) -> None:
        super().__init__(name)
        self.taps, self.says = (tap,), says
        self.given: list[Tensor] = []
        self.inputs: list[Tensor] = []

    def predict_bias(self, features: Mapping[str, Tensor], inputs: Tensor) -> Tensor | None:
        self.given.append(features[self.taps[0]])
        self.inputs.append(inputs)
        return None if self.says is None else torch.full((len(self.given[-1]),), self.says)


def test_the_last_callback_that_can_tell_is_asked_with_its_features() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3).double())
    seers = [Seer("a", "whole", 1), Seer("b", "whole", 2), Seer("c", "bottleneck", None)]
    # The hook of a tap on the model itself must find itself between those that ask.
    taps = {"whole": Tap("", reads="input")}
    engine = Engine(model, seers, taps=taps, n_samples=2, n_classes=3)
    inputs = torch.arange(8, dtype=torch.float64).view(2, 4)
    with watched(engine, model) as seen:
        model(inputs)
    assert torch.cat(seen).tolist() == [2, 2]
    for seer in seers[1:]:
        (given,) = seer.given
        assert given.dtype == torch.float32 and torch.equal(given, inputs.float())
        assert seer.inputs[0] is inputs
    assert not seers[0].given
    model(inputs)
    assert len(seen) == 1  # the hooks are gone


@pytest.mark.parametrize("threshold", [0.01, 0.99])
def test_what_a_verdict_calls_no_shortcut_judges_nothing(threshold: float) -> None:
    test = ShortcutTest(
        threshold, sure=threshold, hint=0.0, early=64, window=64, least=64, settle=64
    )
    cells = CellView(HalfSpaceTrees(n_trees=10, fold=64), "shallow", test)
    one = trained([ShortcutScore([cells])])
    known = "accuracy_pseudo_unbiased" in one.evaluate("validation").metrics
    assert known is bool(test.found) is bool(one.engine.run.shortcut.seen) is (threshold < 0.5)
