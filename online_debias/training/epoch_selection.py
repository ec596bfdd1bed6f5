"""Which epoch of a run counts: the last one, or the best on validation images."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from online_debias.errors import ConfigError
from online_debias.runtime import metrics_csv

Selection = Literal[
    "last", "best-biased-validation", "pseudo-group-validation", "oracle-validation"
]

PSEUDO = "accuracy_pseudo_unbiased"
# An epoch is judged by the first of these metrics of the validation split that it has.
_BY: Mapping[Selection, tuple[str, ...]] = {
    "best-biased-validation": ("accuracy",),
    "pseudo-group-validation": (PSEUDO, "accuracy"),
    "oracle-validation": ("accuracy_unbiased",),
}


@dataclass
class BestEpoch:
    """The best epoch of a run so far, judged while it trains and without bias labels.

    An epoch counts by `accuracy_pseudo_unbiased` on the validation split or, where no callback has
    a biased view or the verdict is that there is no shortcut, by plain accuracy. Where that
    changes, epochs before mean nothing any more.

    Attributes:
        by: the metric that the best epoch was judged by.
        value: of it.
        waited: epochs since.

    Example:
        >>> best = BestEpoch()
        >>> best.better({"accuracy": 0.9}), best.better({"accuracy": 0.9})
        (True, False)
        >>> best.waited
        1
    """

    by: str = "accuracy"
    value: float = -math.inf
    waited: int = 0

    def better(
        self, metrics: Mapping[str, float], names: Sequence[str] = (PSEUDO, "accuracy")
    ) -> bool:
        """Take in the next epoch, by the first of `names` it has; whether it beats all before."""
        by = next(name for name in names if name in metrics)
        if by != self.by or metrics[by] > self.value:
            self.by, self.value, self.waited = by, metrics[by], 0
            return True
        self.waited += 1
        return False


def check_patience(patience: int | None, splits: Container[str]) -> None:
    """Raise ValueError for a patience where no validation split can judge epochs."""
    if patience is not None and "validation" not in splits:
        raise ValueError(
            f"patience is {patience}, but the data has no validation split to judge epochs by; "
            "leave patience out, or hold some training images out."
        )


def select(results: Mapping[str, Any], metrics: Path, selection: Selection) -> dict[str, Any]:
    """Return a run's results with the test accuracies of the epoch that a rule chooses.

    The test split never chooses. "best-biased-validation" takes the epoch with the best accuracy
    on the validation split, which is biased as training is and needs no bias labels;
    "pseudo-group-validation" that with the best `accuracy_pseudo_unbiased`, for which the biased
    view of the run's own scorer stands in for labels (a run without one, or that sees no shortcut
    in the end, is judged by accuracy);
    "oracle-validation" that with its best unbiased accuracy, so the run is then an oracle. Of
    equally good epochs the first counts.

    Args:
        results: what results.json holds.
        metrics: the run's metrics.csv.
        selection: the rule.

    Raises:
        ConfigError: metrics.csv is damaged, there is no validation split, or it has no bias labels
            for the oracle rule.
    """
    if selection == "last":
        return dict(results)
    values: dict[int, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in metrics_csv.read(metrics):
        values[row.epoch][row.split][row.name] = row.value
    names = _BY[selection]
    best, chosen_epoch = BestEpoch(), None
    for epoch, splits in sorted(values.items()):
        judged = splits["validation"]
        if not judged.keys().isdisjoint(names) and best.better(judged, names):
            chosen_epoch = epoch
    if chosen_epoch is None:
        raise ConfigError(
            f"selection is {selection!r}, but {metrics} has no {names[-1]} on a validation split; "
            "choose selection: last."
        )
    test = values[chosen_epoch]["test"]
    chosen = {name: value for name, value in test.items() if name.startswith("accuracy")}
    oracle = bool(results["oracle"]) or selection == "oracle-validation"
    return {**results, **chosen, "selection": selection, "oracle": oracle}
