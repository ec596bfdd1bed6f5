"""Which epoch of a run counts: the last one, or the best on validation images."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from online_debias.errors import ConfigError

Selection = Literal["last", "best-biased-validation", "oracle-validation"]

_BY = {"best-biased-validation": "accuracy", "oracle-validation": "accuracy_unbiased"}


def select(results: Mapping[str, Any], metrics: Path, selection: Selection) -> dict[str, Any]:
    """Return a run's results with the test accuracies of the epoch that a rule chooses.

    The test split never chooses. "best-biased-validation" takes the epoch with the best accuracy
    on the validation split, which is biased as training is and needs no bias labels;
    "oracle-validation" that with its best unbiased accuracy, so the run is then an oracle. Of
    equally good epochs the first counts.

    Args:
        results: what results.json holds.
        metrics: the run's metrics.csv.
        selection: the rule.

    Raises:
        ConfigError: there is no validation split, or it has no bias labels for the oracle rule.
    """
    if selection == "last":
        return dict(results)
    values: dict[int, dict[tuple[str, str], float]] = defaultdict(dict)
    with metrics.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["split"] in ("validation", "test"):
                values[int(row["epoch"])][row["split"], row["name"]] = float(row["value"])
    key = ("validation", _BY[selection])
    scored = {epoch: found[key] for epoch, found in values.items() if key in found}
    if not scored:
        raise ConfigError(
            f"selection is {selection!r}, but {metrics} has no {key[1]} on a validation split; "
            "choose selection: last."
        )
    best = max(scored, key=lambda epoch: (scored[epoch], -epoch))
    chosen = {
        name: value
        for (split, name), value in values[best].items()
        if split == "test" and name.startswith("accuracy")
    }
    oracle = bool(results["oracle"]) or selection == "oracle-validation"
    return {**results, **chosen, "selection": selection, "oracle": oracle}
