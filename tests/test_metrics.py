"""Group accuracies and detection, against loops over samples and pairs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from online_debias.functional.metrics import detection, group_accuracies, group_metrics

torch.set_num_threads(1)


def split(seed: int, n: int = 60) -> tuple[Tensor, Tensor, Tensor]:
    """Predictions, targets and bias; class 2 never meets bias 0, bias 3 has no class of its own."""
    source = torch.Generator().manual_seed(seed)
    targets = torch.randint(3, (n,), generator=source)
    bias = torch.randint(4, (n,), generator=source)
    bias[(targets == 2) & (bias == 0)] = 1
    wrong = torch.rand(n, generator=source) < 0.4
    return torch.where(wrong, bias % 3, targets), targets, bias


def cells_loops(
    predictions: Tensor, targets: Tensor, bias: Tensor
) -> dict[tuple[int, int], tuple[float, int]]:
    hits: dict[tuple[int, int], list[bool]] = {}
    for p, y, b in zip(predictions.tolist(), targets.tolist(), bias.tolist(), strict=True):
        hits.setdefault((y, b), []).append(p == y)
    return {cell: (sum(seen) / len(seen), len(seen)) for cell, seen in hits.items()}


def test_group_accuracies_are_those_of_the_cells_with_samples() -> None:
    for seed in range(5):
        predictions, targets, bias = split(seed)
        expected = cells_loops(predictions, targets, bias)
        actual = group_accuracies(predictions, targets, bias)
        assert (2, 0) not in actual and actual.keys() == expected.keys()
        for cell, (accuracy, size) in expected.items():
            assert actual[cell][0] == pytest.approx(accuracy)
            assert actual[cell][1] == size


def test_group_metrics_are_the_formulas_sample_by_sample() -> None:
    for seed in range(5):
        predictions, targets, bias = split(seed)
        cells = [accuracy for accuracy, _ in cells_loops(predictions, targets, bias).values()]
        rows = list(zip(predictions.tolist(), targets.tolist(), bias.tolist(), strict=True))
        aligned = [p == y for p, y, b in rows if b == y]
        conflicting = [p == y for p, y, b in rows if b != y]
        assert group_metrics(predictions, targets, bias) == pytest.approx(
            {
                "accuracy": sum(p == y for p, y, _ in rows) / len(rows),
                "accuracy_unbiased": sum(cells) / len(cells),
                "accuracy_worst_group": min(cells),
                "accuracy_aligned": sum(aligned) / len(aligned),
                "accuracy_conflicting": sum(conflicting) / len(conflicting),
            }
        )


def test_without_annotations_there_is_only_the_plain_accuracy() -> None:
    predictions, targets, _ = split(0)
    right = sum(p == y for p, y in zip(predictions.tolist(), targets.tolist(), strict=True))
    metrics = group_metrics(predictions, targets, None)
    assert metrics == pytest.approx({"accuracy": right / len(targets)})


@pytest.mark.parametrize("shift", [0, 1], ids=["all aligned", "all conflicting"])
def test_an_accuracy_without_samples_is_left_out(shift: int) -> None:
    targets = torch.tensor([0, 0, 1])
    metrics = group_metrics(torch.tensor([0, 1, 1]), targets, targets + shift)
    present, absent = ("aligned", "conflicting") if shift == 0 else ("conflicting", "aligned")
    assert metrics[f"accuracy_{present}"] == pytest.approx(2 / 3)
    assert f"accuracy_{absent}" not in metrics
    assert metrics["accuracy_unbiased"] == 0.75
    assert metrics["accuracy_worst_group"] == 0.5


def auroc_loops(score: list[float], conflicting: list[bool]) -> float:
    pairs = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for a, kind in zip(score, conflicting, strict=True)
        for b, other in zip(score, conflicting, strict=True)
        if kind and not other
    ]
    return sum(pairs) / len(pairs)


def average_precision_loops(score: list[float], conflicting: list[bool]) -> float:
    area = recall = 0.0
    for threshold in sorted(set(score), reverse=True):
        found = [kind for s, kind in zip(score, conflicting, strict=True) if s >= threshold]
        area += (sum(found) / sum(conflicting) - recall) * sum(found) / len(found)
        recall = sum(found) / sum(conflicting)
    return area


def test_detection_is_counted_pair_by_pair_over_the_scored_samples() -> None:
    for seed in range(5):
        source = torch.Generator().manual_seed(seed)
        conflicting = torch.rand(40, generator=source) < 0.3
        score = ((torch.rand(40, generator=source) + 0.4 * conflicting) * 8).round() / 8  # ties
        score[torch.rand(40, generator=source) < 0.2] = torch.nan
        known = [i for i, s in enumerate(score.tolist()) if not math.isnan(s)]
        values, kinds = [score[i].item() for i in known], [bool(conflicting[i]) for i in known]
        assert len(known) < 40
        assert detection(score, conflicting) == pytest.approx(
            {
                "auroc": auroc_loops(values, kinds),
                "average_precision": average_precision_loops(values, kinds),
            }
        )


def test_detection_is_best_when_every_conflicting_sample_scores_higher() -> None:
    score, conflicting = torch.tensor([0.2, 0.9, 0.1, 0.8]), torch.tensor([0, 1, 0, 1]).bool()
    assert detection(score, conflicting) == {"auroc": 1.0, "average_precision": 1.0}
    assert detection(-score, conflicting)["auroc"] == 0.0


@pytest.mark.parametrize(
    ("score", "conflicting"),
    [
        ([0.1, 0.2], [False, False]),
        ([0.1, 0.2], [True, True]),
        ([math.nan, 0.2], [True, False]),
        ([math.nan, math.nan], [True, False]),
        ([], []),
    ],
)
def test_detection_is_silent_when_the_scored_samples_are_of_one_kind(
    score: list[float], conflicting: list[bool]
) -> None:
    assert detection(torch.tensor(score), torch.tensor(conflicting, dtype=torch.bool)) == {}
