"""The two-step baseline: who is flagged, and how the second model is drawn for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from online_debias.metrics import detection
from online_debias.offline.two_step import TwoStep, balance, flag_conflicting


def biased_features(rho: float = 0.95) -> tuple[Tensor, Tensor, Tensor]:
    """Features that show the bias, the bias, and the targets; a biased model predicts the bias."""
    stream = torch.Generator().manual_seed(0)
    targets = torch.arange(600) % 3
    aligned = torch.rand(600, generator=stream) < rho
    bias = torch.where(aligned, targets, (targets + 1) % 3)
    noise = 0.2 * torch.randn(600, 3, generator=stream)
    return torch.nn.functional.one_hot(bias, 3) + noise, bias, targets


def test_conflicting_samples_are_flagged_as_many_as_the_error_rate_says() -> None:
    features, bias, targets = biased_features()
    conflicting = bias != targets
    for ratio in (0.5, 1.0):
        flagged, score = flag_conflicting(features, bias, targets, nu=0.5, error_ratio=ratio)
        assert detection(score, conflicting)["auroc"] > 0.99
        assert torch.equal(flagged, score >= 0)
        for label in range(3):
            of_class = targets == label
            expected = ratio * int((conflicting & of_class).sum())
            assert abs(int((flagged & of_class).sum()) - expected) <= 1
    assert (conflicting & flagged).sum() / flagged.sum() > 0.9


def test_flags_equal_those_of_one_svm_a_class_made_by_hand() -> None:
    from sklearn.svm import OneClassSVM

    features, bias, targets = biased_features()
    flagged, _ = flag_conflicting(features, bias, targets, nu=0.5, error_ratio=0.5)
    for label in range(3):
        own = features[targets == label].double().numpy()
        right = (bias == targets)[targets == label].numpy()
        low, high = own[right].min(0), own[right].max(0)
        scaled = (own - low) / (high - low)
        value = OneClassSVM(gamma="scale", nu=0.5).fit(scaled[right]).decision_function(scaled)
        limit = np.quantile(value, 0.5 * (1 - right.mean()))
        assert flagged[targets == label].tolist() == (value <= limit).tolist()


def test_a_class_without_correct_predictions_is_scored_all_the_same() -> None:
    features, _, targets = biased_features()
    wrong = (targets + 1) % 3
    flagged, score = flag_conflicting(features, wrong, targets, nu=0.5, error_ratio=0.5)
    assert score.isfinite().all()
    assert flagged.float().mean().item() == pytest.approx(0.5, abs=0.02)


def test_flagged_and_other_samples_are_drawn_equally_often() -> None:
    flagged = torch.arange(100) < 4
    factor = balance(flagged)
    assert factor[flagged].sum() == pytest.approx(factor[~flagged].sum().item())
    assert balance(torch.zeros(5).bool()).isfinite().all()


@pytest.mark.parametrize("settings", [{"q": 0.0}, {"nu": 1.5}, {"error_ratio": 0.0}])
def test_arguments_out_of_range_are_refused(settings: dict[str, float]) -> None:
    name, value = next(iter(settings.items()))
    with pytest.raises(ValueError, match=f"TwoStep: {name} is {value}, expected"):
        TwoStep(**settings)
