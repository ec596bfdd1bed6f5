"""The maths of Voronoi mining, each against a slow loop over rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from online_debias.functional.scores.voronoi_mining import (
    By,
    alignment_share,
    alignment_weights,
    centroids,
    relative_distance,
)

C = 4


def rows(n: int = 60) -> tuple[Tensor, Tensor, Tensor]:
    """Features, targets and predictions of which half are right."""
    stream = torch.Generator().manual_seed(0)
    targets = torch.randint(C, (n,), generator=stream)
    other = torch.randint(C, (n,), generator=stream)
    predictions = torch.where(torch.rand(n, generator=stream) < 0.5, targets, other)
    return torch.randn(n, 5, generator=stream).double() + 3, targets, predictions


def test_centroids_are_means_of_correct_rows() -> None:
    features, targets, predictions = rows()
    targets[targets == 2] = 1  # a class without rows
    means, count = centroids(features, targets, predictions == targets, C)
    for label in range(C):
        own = [
            features[i].numpy()
            for i in range(len(features))
            if targets[i] == label and predictions[i] == label
        ]
        assert count[label] == len(own)
        expected = np.mean(own, axis=0) if own else np.zeros(5)
        assert np.allclose(means[label].numpy(), expected)
    assert count[2] == 0 and (count > 0).sum() == 3


@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_distance_equals_the_published_formula_row_by_row(shift: float) -> None:
    features, targets, predictions = rows()
    features = features + shift
    means, _ = centroids(features, targets, predictions == targets, C)
    found = relative_distance(features, targets, predictions, means, torch.ones(C).bool())
    length = sum(float(mean.norm()) for mean in means)
    assert (targets != predictions).sum() > 10
    for z, t, o, value in zip(features, targets, predictions, found, strict=True):
        if t == o:
            assert value == 0
            continue
        w, h = means[o] - means[t], 0.5 * (means[t] @ means[t] - means[o] @ means[o])
        assert float(value) == pytest.approx(
            float((w @ z + h).abs() / w.norm()) * C / length, rel=1e-6, abs=1e-9
        )


def test_distance_ignores_the_scale_and_is_the_gap_of_squares() -> None:
    features, targets, predictions = rows()
    means, count = centroids(features, targets, predictions == targets, C)
    seen = count > 0
    found = relative_distance(features, targets, predictions, means, seen)
    scaled = relative_distance(7 * features, targets, predictions, 7 * means, seen)
    assert torch.allclose(found, scaled)
    square = torch.cdist(features, means).square()
    own, other = (square.gather(1, x[:, None]).squeeze(1) for x in (targets, predictions))
    apart = (means[targets] - means[predictions]).norm(dim=1)
    wrong = targets != predictions
    expected = ((own - other).abs() / (2 * apart) / means.norm(dim=1).mean())[wrong]
    assert torch.allclose(found[wrong], expected)


def test_rows_of_unknown_centroids_have_no_distance_and_do_not_change_the_unit() -> None:
    features, targets, predictions = rows()
    means, _ = centroids(features, targets, predictions == targets, C)
    seen = torch.tensor([True, True, True, False])
    found = relative_distance(features, targets, predictions, means, seen)
    without = (targets == 3) | (predictions == 3)
    assert (targets != predictions)[without].any()
    assert found[without].eq(0).all()
    expected = relative_distance(
        features[~without], targets[~without], predictions[~without], means[:3], seen[:3]
    )
    assert torch.equal(found[~without], expected)
    nothing = relative_distance(features, targets, predictions, 0 * means, ~torch.ones(C).bool())
    assert nothing.eq(0).all()
    same = relative_distance(features, targets, predictions, torch.ones_like(means), seen)
    assert same.eq(0).all()


@pytest.mark.parametrize("by", ["target", "bias"])
def test_shares_and_weights_equal_counts_by_hand(by: By) -> None:
    _, targets, bias = rows(200)
    share = alignment_share(targets, bias, C, by)
    weights = alignment_weights(targets, bias, C, by)
    pairs = list(zip(targets.tolist(), bias.tolist(), strict=True))
    rho = []
    for label in range(C):
        own = sum(t == label for t, _ in pairs)
        lost = sum(t != b and (t if by == "target" else b) == label for t, b in pairs)
        rho.append((own - lost) / own)
    assert share.tolist() == pytest.approx(rho, rel=1e-6)
    for (t, b), weight in zip(pairs, weights.tolist(), strict=True):
        label = b if by == "bias" else t
        expected = 1 / rho[t] if t == b else 1 / (1 - rho[label])
        assert weight == pytest.approx(expected, rel=1e-5)
    if by == "bias":
        assert not torch.equal(weights, alignment_weights(targets, bias, C, "target"))


def test_aligned_and_conflicting_rows_of_a_class_weigh_the_same() -> None:
    _, targets, bias = rows(200)
    weights = alignment_weights(targets, bias, C)
    for label in range(C):
        own, aligned = targets == label, targets == bias
        n = int(own.sum())
        assert float(weights[own & aligned].sum()) == pytest.approx(n, rel=1e-5)
        assert float(weights[own & ~aligned].sum()) == pytest.approx(n, rel=1e-5)


def test_classes_of_one_kind_and_negative_shares_weigh_one() -> None:
    targets = torch.tensor([0, 0, 1, 1, 2, 2])
    bias = torch.tensor([0, 0, 2, 2, 2, 0])
    assert alignment_weights(targets, bias, 3).tolist() == [1, 1, 1, 1, 2, 2]
    # Class 2 takes two of others in and so keeps none; class 0 one, of its two.
    assert alignment_share(targets, bias, 3, "bias").tolist() == [0.5, 1, 0]
    assert alignment_weights(targets, bias, 3, "bias").tolist() == [2, 2, 1, 1, 1, 2]
    many = torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 0, 1])
    assert alignment_share(*many, 2, "bias").tolist() == [-1, 1]
    assert alignment_weights(*many, 2, "bias").tolist() == [1, 1, 1, 1]
