"""What a comparison found: mean and spread over seeds, and which methods are best."""

from __future__ import annotations

import csv
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from online_debias.errors import ConfigError
from online_debias.runs.results import COLUMNS
from online_debias.training.epoch_selection import Selection


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _short(value: float) -> str:
    for unit in ("", "k", "M"):
        if abs(value) < 999.5:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:,.3g}G"


RANKED: dict[str, tuple[str, Callable[[float], str]]] = {
    "accuracy": ("accuracy", _percent),
    "accuracy_unbiased": ("unbiased", _percent),
    "accuracy_worst_group": ("worst group", _percent),
    "accuracy_aligned": ("aligned", _percent),
    "accuracy_conflicting": ("conflicting", _percent),
    "detect_auroc": ("AUROC", "{:.3f}".format),
    "detect_average_precision": ("AP", "{:.3f}".format),
}
METRICS: dict[str, tuple[str, Callable[[float], str]]] = {
    **RANKED,
    "training_passes": ("trainings", "{:.3g}".format),
    "seconds_training": ("seconds", lambda value: f"{value:,.{0 if value >= 100 else 1}f}"),
    "time_ratio": ("× plain", "{:.2f}".format),
    "samples": ("samples", _short),
    "peak_memory_mb": ("memory, MB", "{:,.0f}".format),
    "extra_parameters": ("extra parameters", _short),
}
SELECTED: Mapping[str, str] = {
    "last": "last epoch",
    "best-biased-validation": "epoch with the best accuracy on biased validation images",
    "pseudo-group-validation": (
        "epoch with the best accuracy over pseudo-groups of biased validation images (plain "
        "accuracy for a method without a biased view)"
    ),
    "oracle-validation": (
        "epoch with the best unbiased accuracy on annotated validation images (oracle)"
    ),
}


@dataclass
class Quoted:
    """A method's numbers as a paper gives them; shown beside ours, never ranked.

    Args:
        method: what the row is called.
        data: the data set, as in results.csv.
        values: metric -> what is shown: a number, accuracies in percent, or text as in the paper,
            "60.1 +- 0.5".
        cite: where the numbers are from.
        ratio: share of bias-aligned images, as in results.csv.

    Raises:
        ValueError: a metric is unknown.

    Example:
        >>> Quoted("DRO", "Waterbirds", {"accuracy_worst_group": "91.4 +- 1.1"}, "ICLR 2020").cite
        'ICLR 2020'
    """

    method: str
    data: str
    values: dict[str, float | str]
    cite: str
    ratio: float | None = None

    def __post_init__(self) -> None:
        for name in self.values:
            if name not in METRICS:
                raise ValueError(
                    f"The quoted row {self.method!r} has a metric {name!r}; use some of "
                    f"{', '.join(METRICS)}."
                )


Runs = dict[str, dict[str, float]]  # of one method: seed -> metric -> value


class Value(NamedTuple):
    """Mean over seeds and sample standard deviation, None of one seed."""

    mean: float
    std: float | None = None

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Value:
        """Return the value of one number a seed."""
        std = statistics.stdev(numbers) if len(numbers) > 1 else None
        return cls(statistics.fmean(numbers), std)


@dataclass
class Line:
    """A method in a section.

    Attributes:
        method: its name.
        n_seeds: number of runs.
        oracle: whether it reads bias labels.
        values: metric -> value; `time_ratio` is the median over seeds of the training time, in
            that of the method called "plain" with the same seed.
        marks: metric -> "best" or "second".
    """

    method: str
    n_seeds: int
    oracle: bool
    values: dict[str, Value]
    marks: dict[str, str] = field(default_factory=dict)


@dataclass
class Section:
    """The methods on one data set with one share of bias-aligned images, and the rows of papers."""

    data: str
    ratio: float | None
    selection: Selection
    lines: list[Line] = field(default_factory=list)
    quoted: list[Quoted] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Name of the data, for a person."""
        share = "" if self.ratio is None else f", {100 * self.ratio:g} % bias-aligned"
        return self.data + share


def read(path: Path) -> list[dict[str, str]]:
    """Read results.csv.

    Raises:
        ConfigError: it is damaged or not what this version writes.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *lines = csv.reader(file)
        rows = [dict(zip(COLUMNS, line, strict=True)) for line in lines]
        if tuple(header) != COLUMNS:
            raise ValueError(header)
        for row in rows:
            _numbers(row)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror}); name the folder of a comparison."
        ) from error
    except (ValueError, csv.Error) as error:
        raise ConfigError(
            f"{path} was written by another version or is damaged, expected the columns "
            f"{','.join(COLUMNS)} and numbers as values; delete it or choose another folder."
        ) from error
    return rows


def _numbers(row: Mapping[str, str]) -> tuple[float | None, float]:
    return float(row["ratio"]) if row["ratio"] else None, float(row["value"])


def summarize(
    rows: Iterable[Mapping[str, str]], selection: Selection, quoted: Iterable[Quoted] = ()
) -> list[Section]:
    """Return a section for each (data, ratio), with its methods, in order of appearance.

    Best and second best of each accuracy and detection metric are marked by the mean as it is
    shown, equal ones alike, among methods that read no bias labels. If bias labels chose the epoch
    of all, all are ranked. Quoted rows never are.

    Args:
        rows: of results.csv.
        selection: the rule by which each run's epoch was chosen.
        quoted: rows from papers.

    Raises:
        ConfigError: there is no such rule.

    Example:
        >>> row = {"method": "plain", "data": "d", "ratio": "", "metric": "accuracy"}
        >>> rows = [{**row, "seed": str(seed), "value": str(seed / 4)} for seed in (1, 3)]
        >>> summarize(rows, "last")[0].lines[0].values["accuracy"]
        Value(mean=0.5, std=0.3535533905932738)
    """
    if selection not in SELECTED:
        raise ConfigError(f"selection is {selection!r}, expected one of {', '.join(SELECTED)}.")
    grouped: dict[tuple[str, float | None], dict[str, Runs]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(dict))
    )
    for row in rows:
        ratio, value = _numbers(row)
        run = grouped[row["data"], ratio][row["method"]][row["seed"]]
        if math.isfinite(value):
            run[row["metric"]] = value
    sections = {
        key: Section(*key, selection, [_line(name, methods) for name in methods])
        for key, methods in grouped.items()
    }
    for paper in quoted:
        key = paper.data, paper.ratio
        sections.setdefault(key, Section(*key, selection)).quoted.append(paper)
    for section in sections.values():
        _mark(section)
    return list(sections.values())


def _line(method: str, methods: Mapping[str, Runs]) -> Line:
    runs, plain = methods[method], methods.get("plain", {})
    values = {}
    for metric in METRICS:
        if numbers := [run[metric] for run in runs.values() if metric in run]:
            values[metric] = Value.of(numbers)
    time = "seconds_training"
    both = [seed for seed in runs if time in runs[seed] and plain.get(seed, {}).get(time)]
    if both:
        ratios = [runs[seed][time] / plain[seed][time] for seed in both]
        values["time_ratio"] = Value(statistics.median(ratios))
    return Line(method, len(runs), any(run.get("oracle") for run in runs.values()), values)


def _mark(section: Section) -> None:
    all_read_labels = section.selection == "oracle-validation"
    ranked = [line for line in section.lines if all_read_labels or not line.oracle]
    for metric, (_, show) in RANKED.items():
        having = [line for line in ranked if metric in line.values]
        shown = [float(show(line.values[metric].mean)) for line in having]
        marks = dict(zip(sorted(set(shown), reverse=True), ("best", "second"), strict=False))
        for line, mean in zip(having, shown, strict=True):
            if mean in marks:
                line.marks[metric] = marks[mean]
