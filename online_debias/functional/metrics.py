"""Group accuracies, and how well a score finds the conflicting samples."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Report:
    """An evaluation of one split.

    Attributes:
        split: "validation", "test" or "train".
        step, epoch: how far training was.
        metrics: name -> value, under the names of `group_metrics`, `detection` and, on the
            validation split, `pseudo_group_metrics`.
        groups: (target, bias) -> (accuracy, number of samples), cells with samples only.
    """

    split: str
    step: int
    epoch: int
    metrics: dict[str, float]
    groups: dict[tuple[int, int], tuple[float, int]] = field(default_factory=dict)


def group_accuracies(
    predictions: Tensor, targets: Tensor, bias: Tensor
) -> dict[tuple[int, int], tuple[float, int]]:
    """Return (target, bias) -> (accuracy, number of samples) for the cells that have samples.

    Args:
        predictions: `[N]` int64 on the CPU.
        targets: `[N]` int64.
        bias: `[N]` int64.
    """
    n_biases = int(bias.max()) + 1
    cell = targets * n_biases + bias
    n_cells = (int(targets.max()) + 1) * n_biases
    size = torch.bincount(cell, minlength=n_cells)
    right = torch.bincount(cell, weights=(predictions == targets).double(), minlength=n_cells)
    return {
        divmod(i, n_biases): (float(right[i] / size[i]), int(size[i]))
        for i in size.nonzero().flatten().tolist()
    }


def group_metrics(predictions: Tensor, targets: Tensor, bias: Tensor | None) -> dict[str, float]:
    """Return the accuracies of a split, in [0, 1].

    `accuracy` is the plain mean; with bias annotations also `accuracy_unbiased` (mean over groups),
    `accuracy_worst_group` (minimum over groups), `accuracy_aligned` and `accuracy_conflicting`
    (over the samples whose bias agrees, or does not, with the target). Groups without samples are
    left out.

    Example:
        >>> y, b = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])
        >>> group_metrics(torch.tensor([0, 1, 1, 1]), y, b)["accuracy_unbiased"]
        0.6666666666666666
    """
    right = predictions == targets
    metrics = {"accuracy": float(right.double().mean())}
    if bias is None:
        return metrics
    cells = [accuracy for accuracy, _ in group_accuracies(predictions, targets, bias).values()]
    metrics["accuracy_unbiased"] = sum(cells) / len(cells)
    metrics["accuracy_worst_group"] = min(cells)
    for name, rows in (("aligned", bias == targets), ("conflicting", bias != targets)):
        if rows.any():
            metrics[f"accuracy_{name}"] = float(right[rows].double().mean())
    return metrics


def detection(score: Tensor, conflicting: Tensor) -> dict[str, float]:
    """Return `auroc` and `average_precision` of finding conflicting samples by a high score.

    Args:
        score: `[N]` on the CPU; NaN for samples without a score, which are left out.
        conflicting: `[N]` bool.

    Returns:
        An empty dict if the scored samples are all of one kind.

    Example:
        >>> detection(torch.tensor([0.1, 0.9]), torch.tensor([False, True]))
        {'auroc': 1.0, 'average_precision': 1.0}
    """
    from sklearn.metrics import average_precision_score, roc_auc_score  # slow to import

    known = ~score.isnan()
    score, conflicting = score[known], conflicting[known]
    if conflicting.all() or not conflicting.any():
        return {}
    truth, value = conflicting.numpy(), score.double().numpy()
    return {
        "auroc": float(roc_auc_score(truth, value)),
        "average_precision": float(average_precision_score(truth, value)),
    }
