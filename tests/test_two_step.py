"""MoDAD: who is flagged, what the last training starts from and draws, and the released quirks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from online_debias.cli.main import main
from online_debias.functional.metrics import detection
from online_debias.offline.two_step import TwoStep, balance, bottleneck, class_score
from online_debias.runtime import scores_csv
from online_debias.taps.taps import Tap
from online_debias.training.settings import TrainingSettings
from online_debias.training.trainer import Trainer
from tests.conftest import make_images
from tests.test_cli import SHAPES, here, refused  # noqa: F401  (a fixture)

SVM = "sklearn.svm.OneClassSVM"


def biased_features(rho: float = 0.95) -> tuple[Tensor, Tensor, Tensor]:
    """Features that show the bias, the bias, and the targets; a biased model predicts the bias."""
    stream = torch.Generator().manual_seed(0)
    targets = torch.arange(600) % 3
    aligned = torch.rand(600, generator=stream) < rho
    bias = torch.where(aligned, targets, (targets + 1) % 3)
    noise = 0.2 * torch.randn(600, 3, generator=stream)
    return torch.nn.functional.one_hot(bias, 3) + noise, bias, targets


def svm() -> Any:
    from sklearn.svm import OneClassSVM

    return OneClassSVM(nu=0.5)


@pytest.mark.parametrize("ratio", [0.5, 1.0])
def test_conflicting_samples_are_flagged_as_many_as_the_error_rate_says(ratio: float) -> None:
    features, bias, targets = biased_features()
    for label in range(3):
        own, right = features[targets == label], bias[targets == label] == label
        share = ratio * float((~right).double().mean())
        score = class_score(svm(), own, right, share)
        found = detection(score, ~right)
        assert found["auroc"] > 0.99 and found["average_precision"] > 0.9
        assert abs(int((score > 0.5).sum()) - ratio * int((~right).sum())) <= 1
        assert ((~right) & (score > 0.5)).sum() / (score > 0.5).sum() > 0.9


@pytest.mark.parametrize("unscaled", [False, True])
def test_flags_equal_those_made_by_hand(unscaled: bool) -> None:
    """As the released code has it: the percentile of the decision values, and all up to it."""
    features, bias, targets = biased_features()
    own, right = features[targets == 1], bias[targets == 1] == 1
    x, known = own.double().numpy(), own[right].double().numpy()
    scaled = (x - known.min(0)) / (known.max(0) - known.min(0))
    machine = svm().fit(known if unscaled else scaled[right.numpy()])
    value = machine.decision_function(scaled)
    share = 0.5 * float((~right).double().mean())
    flagged = value <= np.percentile(value, 100 * share)
    score = class_score(svm(), own, right, share, fit_unscaled=unscaled)
    assert (score > 0.5).tolist() == flagged.tolist()
    assert flagged.sum() >= 1 and not flagged.all()


def test_a_perfect_biased_model_still_flags_one() -> None:
    features, _, targets = biased_features()
    own = features[targets == 0]
    assert (class_score(svm(), own, torch.ones(len(own)).bool(), 0.0) > 0.5).sum() == 1


def test_a_class_without_correct_predictions_is_scored_all_the_same() -> None:
    features, _, targets = biased_features()
    own = features[targets == 0]
    score = class_score(svm(), own, torch.zeros(len(own)).bool(), share=0.5)
    assert score.isfinite().all()
    assert (score > 0.5).float().mean().item() == pytest.approx(0.5, abs=0.02)


def test_detectors_of_pyod_have_their_own_sign() -> None:
    pytest.importorskip("pyod")
    from pyod.models.knn import KNN

    features, bias, targets = biased_features()
    own, right = features[targets == 0], bias[targets == 0] == 0
    score = class_score(KNN(), own, right, share=0.02)
    assert detection(score, ~right)["auroc"] > 0.99


def test_flagged_and_other_samples_are_drawn_equally_often() -> None:
    flagged = torch.arange(100) < 4
    factor = balance(flagged)
    assert factor[flagged].sum() == pytest.approx(factor[~flagged].sum().item())
    assert balance(torch.zeros(5).bool()).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"q": 0.0}, "TwoStep: q is 0.0, expected"),
        ({"error_ratio": 0.0}, "TwoStep: error_ratio is 0.0, expected"),
        ({"lr_ratio": -1.0}, "TwoStep: lr_ratio is -1.0, expected"),
        ({"arguments": {"nu": 1.5}}, "OneClassSVM does not take the arguments"),
        ({"detector": "sklearn.svm.SVC"}, "expected an anomaly detector"),
        ({"detector": "sklearn.svm.TwoClassSVM"}, "expected the import path of a class"),
    ],
)
def test_arguments_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TwoStep(**settings)


def train(*arguments: str) -> dict[str, Any]:
    assert main(["train", *SHAPES, "--method", "two-step", "--run", "a", *arguments]) == 0
    found: dict[str, Any] = json.loads(Path("a/results.json").read_text())
    return found


def weights(folder: str) -> dict[str, Tensor]:
    found: dict[str, Tensor] = safetensors.torch.load_file(f"{folder}/model.safetensors")
    return found


def test_it_trains_three_times_and_resumes_between_stages() -> None:
    found = train()
    assert found["training_passes"] == 3 and not found["oracle"]
    assert found["samples"] == 3 * 2 * 240 and found["extra_parameters"] > 0
    assert 0 <= found["detect_auroc"] <= 1
    before, flags = weights("a"), Path("a/scores.csv").read_bytes()
    Path("a/last.pt").unlink()
    Path("a/scores.csv").unlink()
    assert main(["train", "--resume", "a"]) == 0
    assert all(torch.equal(value, before[name]) for name, value in weights("a").items())
    assert Path("a/scores.csv").read_bytes() == flags


def test_the_last_training_starts_from_the_plain_model() -> None:
    train("--pipeline.lr_ratio", "1e-9")
    from online_debias.runtime import checkpoint

    plain = checkpoint.load(Path("a/plain/last.pt"))["model"]
    for name, value in weights("a").items():
        if "running" not in name and "num_batches" not in name:  # batch norm goes on counting
            torch.testing.assert_close(value, plain[name], rtol=0, atol=1e-6)


def test_the_bottleneck_may_be_elsewhere() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())  # no Linear
    images = make_images(60)
    trainer = Trainer(model, images, settings=TrainingSettings(epochs=1, batch_size=30))
    with pytest.raises(ValueError, match="no default tap 'bottleneck'"):
        bottleneck(trainer, images)
    assert bottleneck(trainer, images, tap=Tap("0", pool=2))[0].shape == (60, 12)
    doubled = Tap("0", transform=lambda feature: 2 * feature)
    plain, _ = bottleneck(trainer, images, tap=Tap("0"))
    twice = Trainer(
        model,
        images,
        settings=TrainingSettings(epochs=1, batch_size=30, taps={"bottleneck": doubled}),
    )
    assert torch.equal(bottleneck(twice, images, tap=doubled)[0], 2 * plain)  # and not four times


def test_true_flags_make_an_oracle_and_need_no_biased_model() -> None:
    found = train("--pipeline.flags", "true")
    assert found["oracle"] and found["training_passes"] == 2
    assert found["detect_auroc"] == 1.0
    assert not Path("a/biased").exists()


def test_the_findings_can_be_given_to_other_callbacks() -> None:
    mixing = '[{"class_path": "Resample"}, {"class_path": "CrossBiasMix"}, {"class_path": "EnD"}]'
    settings = ["--pipeline.start", "scratch", "--pipeline.balance", "false"]
    found = train("--callbacks", mixing, *settings)
    assert found["training_passes"] == 2
    flagged = scores_csv.read(Path("a/scores.csv"))
    assert set(flagged.bias_label.tolist()) <= {0, 1, 2}


@pytest.mark.parametrize("option", ["random_views", "fit_unscaled"])
def test_quirks_of_the_released_code_are_options(option: str) -> None:
    train()
    plain = Path("a/scores.csv").read_bytes()
    Path("a").rename("b")
    train(f"--pipeline.{option}", "true")
    assert Path("a/scores.csv").read_bytes() != plain


@pytest.mark.parametrize("detector", ["sklearn.ensemble.IsolationForest", "pyod.models.hbos.HBOS"])
def test_another_detector_takes_the_place_of_the_svm(detector: str) -> None:
    if detector.startswith("pyod"):
        pytest.importorskip("pyod")
    first = train("--pipeline.detector", detector)["detect_auroc"]
    Path("a").rename("b")
    assert train("--pipeline.detector", detector)["detect_auroc"] == first  # seeded


def test_true_flags_without_annotations_are_one_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--data", "tests.own.Plain", "--method", "two-step", "--pipeline.flags", "true"]
    status = main(["train", *arguments, "--batch_size", "40", "--run", "a"])
    assert "the training set has no bias labels" in refused(capsys, status)
