"""The verdict from end to end: who acts on it, and that nothing is left where there is none."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from torch import Tensor

from online_debias.callbacks import (
    Augment,
    ConflictScore,
    CrossBiasMix,
    EnD,
    NoiseScore,
    OracleGroups,
    Resample,
    ShortcutScore,
)
from online_debias.callbacks.monitors import Detection
from online_debias.cli import score
from online_debias.cli.train import train
from online_debias.detectors import Mahalanobis
from online_debias.engine import Batch, Callback, Engine, Monitor, Run
from online_debias.functional.metrics import detection
from online_debias.memory.recorder import Scalar
from online_debias.report.finished import load
from online_debias.report.page import render
from online_debias.report.samples import collect
from online_debias.runtime import checkpoint
from online_debias.training.trainer import Trainer
from online_debias.views import CellView, PartView, ShortcutTest, TapView, TextureView
from tests.conftest import make_images, make_model, make_trainer

ROOT = Path(__file__).resolve().parent.parent
FAIR = 1 / 3  # share of images whose colour agrees with the class, where it says nothing of it
TEST = {"threshold": 0.2, "hint": 0.2, "window": 240, "least": 48}
# On fair data these speak for some steps, then see that the model does not follow them.
HASTY: dict[str, float] = {**TEST, "sure": 1.0, "follow": 0.95}
SETTLES: dict[str, float] = {**HASTY, "early": 240, "settle": 240}
NEVER: dict[str, float] = {**TEST, "threshold": 0.99, "sure": 1.0}
FIRM = {"fold": 64, "shrinkage": 1e4}  # soon ready, and sure of what it sees


class Tells(Monitor):
    """Keeps the scalars that are no times, and of each step what the verdict was."""

    def __init__(self) -> None:
        self.scalars: list[Scalar] = []
        self.seen: list[bool] = []
        self.resting: list[bool] = []

    def on_step_end(self, batch: Batch, bias: Tensor | None, run: Run) -> None:
        if "conflict" not in batch.signals:
            return
        known = batch.known["conflict"]
        assert torch.equal(known, run.shortcut.seen & ~batch.mixed)
        assert torch.equal(known, batch.known["bias_label"])
        assert not batch.signals["conflict"][~known].any()
        assert torch.equal(batch.signals["bias_label"][~known], batch.targets[~known])
        self.seen.append(bool(run.shortcut.seen))
        self.resting.append(run.shortcut.resting)

    def on_scalars(self, scalars: Sequence[Scalar], run: Run) -> None:
        self.scalars += [scalar for scalar in scalars if not scalar.name.startswith("time/")]


def cells(**test: float) -> CellView:
    return CellView(Mahalanobis(**FIRM), test=ShortcutTest(**{**TEST, **test}))  # type: ignore[arg-type]


def actions() -> list[Callback]:
    """All that the recipe does."""
    others: list[Callback] = [Augment(least_rate=2), CrossBiasMix(), EnD(alpha=0.0, beta=1.0)]
    return [*others, NoiseScore(separation=0.3, warmup=1), Resample(sharpness=10)]


def trained(callbacks: list[Callback], rho: float = 0.9, fit: bool = True) -> Trainer:
    one = make_trainer(
        callbacks, make_images(rho=rho), [Tells(), Detection()],
        epochs=5, batch_size=40, lr=3e-3, log_every=1,
    )  # fmt: skip
    if fit:
        one.fit()
    return one


def weights(one: Trainer) -> Tensor:
    return torch.cat([value.flatten() for value in one.model.state_dict().values()])


def told(one: Trainer) -> Tells:
    found = one.engine.monitors[0]
    assert isinstance(found, Tells)
    return found


def test_without_a_shortcut_nothing_is_known_and_training_is_left_as_it_is() -> None:
    plain = trained([], FAIR)
    acting = trained([ShortcutScore([cells(**NEVER)]), *actions()[:-1]], FAIR)
    assert not any(told(acting).seen)
    assert acting.engine.run.shortcut.figures["shortcut"] is False
    for signal in ("conflict", "bias_label", "noise"):
        samples = acting.engine.run.samples
        assert signal in samples and samples.values(signal).isnan().all()
    assert torch.equal(weights(plain), weights(acting))
    # To draw by rates, even by equal ones, gives another order.
    drawn = trained([ShortcutScore([cells(**NEVER)]), *actions()], FAIR).engine.run
    assert drawn.tables["resample"].unique().tolist() == [1.0]
    assert drawn.samples.drawn.unique().tolist() == [5]


def test_with_a_shortcut_rows_are_scored_and_acted_on() -> None:
    plain = trained([ShortcutScore([cells()])])
    acting = trained([ShortcutScore([cells()]), *actions()])
    images = make_images()
    assert told(acting).seen[-1] and not any(told(acting).resting)
    assert acting.engine.run.shortcut.figures["shortcut"] is True
    assert images.conflicting is not None
    score = acting.engine.run.samples.values("conflict")
    assert detection(score, images.conflicting)["auroc"] > 0.95
    factor = acting.engine.run.tables["resample"]
    assert factor[images.conflicting].mean() > 3 * factor[~images.conflicting].mean()
    assert not torch.equal(weights(plain), weights(acting))


class Unsettled(CellView):
    """Says the same and never lets the host know."""

    def decide(self) -> None:
        """Leave the verdict on the device."""


def test_who_rests_because_of_a_verdict_changes_no_weight() -> None:
    settled, unsettled = cells(**SETTLES), cells(**SETTLES)
    unsettled.__class__ = Unsettled
    one, other = (
        trained([ShortcutScore([view]), *actions()], FAIR) for view in (settled, unsettled)
    )
    assert any(told(one).seen) and not told(one).seen[-1]  # it acted, then it was ruled out
    assert told(one).resting[-1] and not any(told(other).resting)
    assert told(one).seen == told(other).seen
    assert torch.equal(weights(one), weights(other))


def everything(one: Trainer) -> dict[str, Tensor]:
    """The model, the callbacks and all that is known of the samples."""
    engine = one.engine.state_dict()
    found = {"model": weights(one), "verdict": engine["shortcut"].pop("seen")}
    for group in (*engine["callbacks"].values(), engine["samples"]):
        for name, value in group.items():
            for key, part in value.items() if isinstance(value, dict) else [("", value)]:
                if isinstance(part, Tensor):
                    found[f"{len(found)} {name} {key}"] = part
    return found


@pytest.mark.parametrize(("rho", "test"), [(0.9, TEST), (FAIR, HASTY), (FAIR, SETTLES)])
def test_a_run_resumed_in_mid_epoch_is_the_same_to_the_bit(
    rho: float, test: dict[str, float], tmp_path: Path
) -> None:
    def made(fit: bool = False) -> Trainer:
        views = [cells(**test), TextureView(least=240), PartView()]
        return trained([ShortcutScore(views), *actions()], rho, fit)

    whole = made(fit=True)
    expected = everything(whole)
    for stop in (3, 14, 27):
        first, second = made(), made()
        first.epochs, rest = divmod(stop, 6)
        first.fit()
        first.model.train()
        for _, batch in zip(range(rest), first.loader, strict=False):
            first._step(*batch)
        checkpoint.save(tmp_path / "last.pt", first.state_dict())
        second.load_state_dict(checkpoint.load(tmp_path / "last.pt"))
        second.fit()
        found = everything(second)
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=0, equal_nan=True, msg=name)
        assert told(second).seen == told(whole).seen[stop:]
        assert told(second).resting == told(whole).resting[stop:]
        assert second.engine.run.shortcut.figures == whole.engine.run.shortcut.figures
        since = [scalar for scalar in told(whole).scalars if scalar.step >= stop]
        assert [scalar for scalar in told(second).scalars if scalar.step >= stop] == since
        assert {"shortcut/evidence", "shortcut/found"} <= {scalar.name for scalar in since}
    assert told(whole).resting[stop] is (test is SETTLES)


class Reads(Callback):
    """Notes which taps are read."""

    requires = ("conflict",)

    def setup(self, run: Run) -> None:
        self.taps_read: list[set[str]] = []

    def on_features(self, batch: Batch) -> None:
        self.taps_read.append(set(batch.features))


class Says(Callback):
    """Publishes what a test chose, and whether that means anything."""

    provides = ("conflict", "bias_label")
    sees = True

    def setup(self, run: Run) -> None:
        run.shortcut.seek(self.provides)

    def on_features(self, batch: Batch) -> None:
        wrong = batch.index % 3 == 0
        known = torch.full_like(batch.mixed, self.sees)
        batch.publish("conflict", wrong.float(), known)
        batch.publish("bias_label", batch.index // 3 % 3, known)
        self.run.shortcut.see(torch.tensor(self.sees))


def test_what_was_remembered_before_a_verdict_was_reversed_is_acted_on_no_more() -> None:
    """Scores are known, then no more, then again: all is drawn evenly and none mixed meanwhile."""
    images, says = make_images(), Says()
    model, inputs = make_model(), images.to_float(images.images)
    callbacks = [says, Resample(), CrossBiasMix(probability=1.0)]
    engine = Engine(model, callbacks, n_samples=len(images), n_classes=3)
    factors, mixed = [], []
    for sees in (True, True, False, True):
        says.sees = sees
        order = torch.tensor(list(engine.sampler()))
        for rows in order.split(40):
            batch = engine.start_step(rows, inputs[rows], images.targets[rows])
            engine.loss(batch, model(batch.inputs)).backward()
            engine.end_step(batch)
        mixed.append(bool(batch.mixed.any()))
        engine.end_epoch()
        factors.append(engine.run.tables["resample"].clone())
    assert mixed == [False, True, False, True]  # no label is known in the first epoch
    assert factors.pop(2).unique().tolist() == [1.0]
    assert all(len(factor.unique()) > 1 for factor in factors)


def test_it_comes_before_those_who_read_it() -> None:
    for listed in (actions(), actions()[::-1]):
        engine = Engine(make_model(), [*listed, ShortcutScore()], n_samples=8, n_classes=3)
        order = [callback.name for callback in engine.callbacks]
        readers = ("noise_score", "resample", "cross_bias_mix", "end")
        assert all(order.index("shortcut_score") < order.index(name) for name in readers)


def test_a_view_that_was_ruled_out_asks_for_no_features() -> None:
    one = trained([shortcut := ShortcutScore([cells(**SETTLES), PartView()]), Reads()], FAIR)
    assert (
        told(one).resting[-1] and shortcut.active_taps == ()
    )  # three classes are too few for parts
    reads = one.engine.callbacks[-1]
    assert isinstance(reads, Reads)
    assert reads.taps_read[0] == {"local"} and reads.taps_read[-1] == set()


def test_a_scorer_that_rested_begins_anew_in_another_run() -> None:
    score = ShortcutScore([cells(**{**HASTY, "early": 240, "settle": 240}), PartView()])
    first = trained([score], rho=FAIR)
    assert first.engine.run.shortcut.resting and score.active_taps == ()
    expected = everything(first)
    found = everything(trained([score], rho=FAIR))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, equal_nan=True, msg=name)


def test_a_verdict_holds_back_only_the_signals_that_it_judges() -> None:
    """True labels are acted on, whatever a scorer under another name sees."""
    others: list[Callback] = [OracleGroups(), EnD(alpha=0.0, beta=1.0), CrossBiasMix()]
    common: dict[str, Any] = {"epochs": 8, "batch_size": 40}
    alone = make_trainer(others, make_images(rho=FAIR), **common)
    never = ShortcutScore([cells(**{**NEVER, "early": 240, "settle": 240})], "mine", "mine_label")
    again: list[Callback] = [OracleGroups(), EnD(alpha=0.0, beta=1.0), CrossBiasMix(), never]
    beside = make_trainer(again, make_images(rho=FAIR), **common)
    alone.fit()
    beside.fit()
    assert beside.engine.run.shortcut.resting
    assert torch.equal(weights(alone), weights(beside))


def test_two_verdicts_are_refused() -> None:
    both = [ShortcutScore(), ShortcutScore(signal="a", label_signal="b", name="other")]
    with pytest.raises(ValueError, match="Two callbacks look for a shortcut; leave one of them"):
        Engine(make_model(), both, n_samples=8, n_classes=3)
    with pytest.raises(ValueError, match="'conflict_score' and 'shortcut_score' both provide"):
        Engine(make_model(), [ShortcutScore(), ConflictScore()], n_samples=8, n_classes=3)


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ([], r"views has no CellView, expected one; add CellView\(\)"),
        ([TextureView()], "views has no CellView, expected one"),
        ([CellView(), CellView()], "views has 2 of CellView, expected at most one; leave the"),
        ([CellView(), PartView(), PartView()], "views has 2 of PartView, expected at most one"),
        (
            [CellView(), TapView(Mahalanobis(), "shallow")],
            "views has a TapView, expected CellView, TextureView or PartView; leave it out",
        ),
    ],
)
def test_views_that_do_not_go_together_are_refused(views: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"ShortcutScore: {message}"):
        ShortcutScore(views)


# What a run leaves behind that ends without a shortcut.


def settings(test: dict[str, float]) -> dict[str, Any]:
    view = {
        "class_path": "online_debias.views.CellView",
        "init_args": {
            "detector": {"class_path": "Mahalanobis", "init_args": FIRM},
            "test": {"class_path": "online_debias.views.ShortcutTest", "init_args": test},
        },
    }
    callbacks: dict[str, dict[str, Any]] = {
        "ShortcutScore": {"views": [view]},
        "NoiseScore": {"separation": 0.3, "warmup": 1},
        "Resample": {"sharpness": 10},
        "CrossBiasMix": {},
        "EnD": {"alpha": 0, "beta": 1},
    }
    return {
        "callbacks": [
            {"class_path": f"online_debias.callbacks.{name}", "init_args": given}
            for name, given in callbacks.items()
        ]
    }


@pytest.mark.parametrize(
    ("test", "spoke"),
    [(HASTY, True), (SETTLES, True), (NEVER, False)],
    ids=["ruled out", "ruled out for good", "never seen"],
)
def test_a_run_that_ends_without_a_shortcut_leaves_no_score_anywhere(
    test: dict[str, float], spoke: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))
    Path("settings.yaml").write_text(yaml.safe_dump(settings(test)))
    folder = Path("fair")
    results = train(
        ["--config", "settings.yaml", "--data", "tests.own.Fair", "--model.widths", "[8,8,8]"]
        + ["--epochs", "4", "--batch_size", "40", "--lr", "3e-3", "--run", str(folder)]
        + ["--log_every", "1"]
    )

    engine = checkpoint.load(folder / "last.pt")["engine"]
    remembered = engine["samples"]["scores"]["conflict"][:-1]
    assert bool((remembered > 0.5).any()) is spoke  # as long as it spoke, scores were known
    assert engine["shortcut"]["sought"] and not engine["shortcut"]["seen"]

    assert results == json.loads((folder / "results.json").read_text())
    assert results["shortcut"] is False
    found = [name for name in results if name.startswith(("detect", "conflicting_share"))]
    assert found == [] and "suspected_noise" not in results

    with (folder / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 240 and any(row["loss"] for row in rows)
    assert {row[name] for row in rows for name in ("score", "bias_label", "noise")} == {""}

    with (folder / "metrics.csv").open(newline="") as file:
        curves = list(csv.DictReader(file))
    steps = [row for row in curves if row["name"] == "shortcut/found"]
    assert any(float(row["value"]) for row in steps) is spoke
    assert float(steps[-1]["value"]) == 0
    last = {row["name"] for row in curves if row["epoch"] == curves[-1]["epoch"]}
    scored = {name for name in last if "pseudo" in name or name.startswith("detect/")}
    assert scored <= {"detect/mean_score"}

    scores, details, afterwards = collect(load(folder))
    assert not afterwards and scores.score.isnan().all() and set(scores.bias_label.tolist()) == {-1}
    assert details.noise is None or details.noise.isnan().all()
    out = io.StringIO()
    score.command(folder, console=Console(file=out, width=80, _environ={}))
    printed = out.getvalue()
    assert "No shortcut was seen" in printed and "No sample looks bias-conflicting" in printed
    assert "suspicious" not in printed and "wrong label" not in printed
    page = render(load(folder))
    assert "No shortcut was seen" in page and "looks like" not in page
