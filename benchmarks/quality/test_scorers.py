"""The benchmark of scorers: what it exports, how it drives callbacks, what its table means."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import scorers
import scorers_table
import torch
from torch import Tensor

from online_debias.callbacks import ConflictScore, OfflineScore
from online_debias.data import Images
from online_debias.detectors import Centroid
from online_debias.functional.metrics import detection
from online_debias.training.settings import TrainingSettings
from online_debias.training.trainer import Trainer
from tests.conftest import make_images, make_model

pytestmark = pytest.mark.slow
KEY = {"data": "d", "ratio": 0.9, "seed": 0, "trained": "plain", "epoch": 1}


def features(n: int = 600) -> tuple[Tensor, Tensor, Tensor]:
    """Rows about the place of a bias value, their classes, and which of the two disagree."""
    random = torch.Generator().manual_seed(0)
    targets = torch.arange(n) % 2
    conflicting = torch.arange(n) % 40 < 2
    bias = torch.where(conflicting, 1 - targets, targets)
    place = torch.tensor([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0]])[bias]
    return place + torch.randn(n, 3, generator=random), targets, conflicting


def keep(path: Path) -> Path:
    x, targets, conflicting = features()
    kept = {"shallow": x, "loss": x[:, 0], "targets": targets, "conflicting": conflicting}
    safetensors.torch.save_file({name: value.contiguous() for name, value in kept.items()}, path)
    return path


def test_a_streaming_callback_scores_rows_in_their_places() -> None:
    x, targets, conflicting = features()
    found, seconds = scorers.scores(ConflictScore(Centroid(), "here"), "here", x, targets, seed=0)
    assert detection(found, conflicting)["auroc"] > 0.95 and seconds > 0
    again, _ = scorers.scores(ConflictScore(Centroid(), "here"), "here", x, targets, seed=0)
    assert torch.equal(found, again)


def test_an_offline_detector_is_fitted_to_each_class_and_scores_all_of_it() -> None:
    from sklearn.svm import OneClassSVM

    x, targets, _ = features()
    callback = OfflineScore("sklearn.svm.OneClassSVM", {"nu": 0.1}, "here")
    found, _ = scorers.scores(callback, "here", x, targets, seed=0)
    for target in (0, 1):
        own = x[targets == target].double()
        rows = ((own - own.mean(0)) / own.std(0, correction=0)).numpy()
        decision = -OneClassSVM(nu=0.1).fit(rows).decision_function(rows)
        order = found[targets == target].numpy().argsort()
        assert (decision[order][1:] - decision[order][:-1]).min() > -1e-6


def test_a_detector_for_all_classes_sees_no_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [scorers.offline("pyod.models.ecod.ECOD", blind=blind) for blind in (True, False)]
    few = [scorer._replace(taps=("shallow",)) for scorer in few]
    monkeypatch.setattr(scorers, "SCORERS", few)
    _, blind, apart = scorers.rows_of(keep(tmp_path / "f.safetensors"), KEY, set())
    assert blind["scorer"] == "ECOD, one for all classes" and apart["scorer"] == "ECOD"
    assert blind["auroc"] < 0.65 and apart["auroc"] > 0.85


def test_exported_features_are_the_networks_and_exporting_changes_no_weight(tmp_path: Path) -> None:
    data, weights = make_images(n=64), []
    for exports in (False, True):
        model = make_model()
        paths = {epoch: tmp_path / f"{epoch}.safetensors" for epoch in (1, 2)}
        monitors = [scorers.Export(model, data, paths)] if exports else []
        Trainer(
            model, data, monitors=monitors, settings=TrainingSettings(epochs=2, batch_size=16)
        ).fit()
        weights.append(torch.cat([value.flatten() for value in model.parameters()]))
    assert torch.equal(*weights)
    kept = safetensors.torch.load_file(tmp_path / "2.safetensors")
    first = safetensors.torch.load_file(tmp_path / "1.safetensors")
    assert not torch.equal(first["bottleneck"], kept["bottleneck"])
    with torch.no_grad():
        model.eval()
        stage = model.stage1(Images.to_float(data.images))
        deep = model.stage3(model.stage2(stage)).flatten(1)
        loss = torch.nn.functional.cross_entropy(model.head(deep), data.targets, reduction="none")
    assert data.conflicting is not None
    expected = {
        "bottleneck": deep,
        "shallow": torch.nn.functional.adaptive_avg_pool2d(stage, 2).flatten(1),
        "local": torch.nn.functional.adaptive_avg_pool2d(stage, 7).flatten(1),
        "loss": loss,
    }
    for name, value in expected.items():
        torch.testing.assert_close(kept[name], value, rtol=1e-4, atol=1e-5)
    assert torch.equal(kept["targets"], data.targets)
    assert torch.equal(kept["conflicting"], data.conflicting)


def test_rows_that_are_there_are_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = (
        scorers.ours("Centroid", Centroid, ("shallow",)),
        scorers.river("river.anomaly.HalfSpaceTrees", ("shallow",), n_trees=2, height=3),
    )
    monkeypatch.setattr(scorers, "SCORERS", few)
    path = keep(tmp_path / "features.safetensors")
    rows = list(scorers.rows_of(path, KEY, set()))
    assert [row["scorer"] for row in rows] == ["loss", "Centroid", "HalfSpaceTrees"]
    scorers.write(tmp_path / "rows.csv", rows)
    done = {scorers.named(row) for row in scorers.read(tmp_path / "rows.csv")}
    assert list(scorers.rows_of(path, KEY, done)) == []
    other = [row["scorer"] for row in scorers.rows_of(path, KEY | {"seed": 1}, done)]
    assert other == ["loss", "Centroid"]  # river has one seed


def test_a_data_set_counts_once_however_many_seeds_it_has() -> None:
    row = dict.fromkeys(scorers_table.COLUMNS, "0") | {"trained": "plain", "epoch": "1"}
    row |= {"scorer": "Loda", "library": "ours", "tap": "shallow", "ratio": "0.95"}
    rows = [
        row | {"data": "a", "seed": "0", "auroc": "0.5"},
        row | {"data": "a", "seed": "1", "auroc": "0.7"},
        row | {"data": "b", "seed": "0", "auroc": "1.0"},
    ]
    by_tap, _, by_data, _ = scorers_table.table(rows).split("\n\n")
    assert "| 0.800 / 0.000 |" in by_tap
    assert "| a, 0.95 | b, 0.95 |" in by_data


def test_the_table_by_data_set_compares_plain_with_online() -> None:
    row = dict.fromkeys(scorers_table.COLUMNS, "0") | {
        "data": "a",
        "ratio": "0.95",
        "library": "ours",
    }
    row |= {"scorer": "Loda", "tap": "shallow"}
    rows = [
        row | {"trained": "plain", "epoch": "1", "average_precision": "0.9"},
        row | {"trained": "plain", "epoch": "4", "average_precision": "0.8"},
        row | {"trained": "online", "epoch": "4", "average_precision": "0.7"},
        row | {"trained": "online", "epoch": "4", "average_precision": "0.1", "tap": "local"},
    ]
    assert "| Loda | ours | shallow | 0.900 / 0.700 |" in scorers_table.table(rows)
