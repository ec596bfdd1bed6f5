"""What a comparison found: numbers, marks and the file they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from online_debias.comparison.summary import Line, Quoted, Section, read, summarize
from online_debias.errors import ConfigError
from online_debias.runs.results import write_csv

Given = dict[str, list[dict[str, Any]]]

# method -> the runs of its seeds; all numbers are chosen so that they can be checked by hand.
METHODS: Given = {
    "plain": [
        {"accuracy_unbiased": 0.10, "seconds_training": 10.0, "training_passes": 1},
        {"accuracy_unbiased": 0.12, "seconds_training": 20.0, "training_passes": 1},
        {"accuracy_unbiased": 0.17, "seconds_training": 10.0, "training_passes": 1},
    ],
    "two-step": [
        {"accuracy_unbiased": 0.60, "seconds_training": 30.0, "training_passes": 2},
        {"accuracy_unbiased": 0.64, "seconds_training": 50.0, "training_passes": 2},
        {"accuracy_unbiased": 0.68, "seconds_training": 21.0, "training_passes": 2},
    ],
    "group-dro": [{"accuracy_unbiased": 0.9, "oracle": True}] * 3,
    "online": [{"accuracy_unbiased": 0.8, "detect_auroc": 0.9987, "samples": 79872}] * 3,
}


def rows(given: Given, data: str = "digits", ratio: str = "0.98") -> list[dict[str, str]]:
    return [
        {
            "method": method,
            "data": data,
            "ratio": ratio,
            "seed": str(seed),
            "metric": metric,
            "value": str(float(value)),
        }
        for method, runs in given.items()
        for seed, run in enumerate(runs)
        for metric, value in run.items()
    ]


def one(section: Section, method: str) -> Line:
    (line,) = (line for line in section.lines if line.method == method)
    return line


def marks(section: Section, metric: str) -> dict[str, str]:
    return {line.method: line.marks[metric] for line in section.lines if metric in line.marks}


def test_means_deviations_and_relative_time_are_those_of_a_hand_computation() -> None:
    (section,) = summarize(rows(METHODS), "last")
    assert [line.method for line in section.lines] == list(METHODS)
    value = one(section, "plain").values["accuracy_unbiased"]
    assert value.mean == pytest.approx(0.13)
    assert value.std == pytest.approx((((0.03**2) + 0.01**2 + 0.04**2) / 2) ** 0.5)
    # 30 / 10, 50 / 20 and 21 / 10: of the same seeds, not of the means.
    assert one(section, "two-step").values["time_ratio"].mean == 2.5
    assert one(section, "plain").values["time_ratio"].mean == 1.0
    assert "time_ratio" not in one(section, "online").values
    assert one(section, "two-step").n_seeds == 3


def test_numbers_that_are_none_count_as_missing() -> None:
    given = {"plain": [{"accuracy": 0.5, "detect_auroc": float("nan")}, {"accuracy": 0.7}]}
    (section,) = summarize(rows(given), "last")
    assert section.lines[0].values["accuracy"].mean == pytest.approx(0.6)
    assert "detect_auroc" not in section.lines[0].values


def test_seconds_of_seeds_without_a_plain_run_are_not_compared() -> None:
    given = {
        "plain": [{"seconds_training": 10.0}, {"accuracy": 0.5}, {"seconds_training": 0.0}],
        "online": [{"seconds_training": 15.0}, {"seconds_training": 99.0}] * 2,
    }
    (section,) = summarize(rows(given), "last")
    assert one(section, "online").values["time_ratio"].mean == 1.5
    (section,) = summarize(rows({"online": given["online"]}), "last")
    assert "time_ratio" not in section.lines[0].values


def test_a_quoted_metric_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'DDB-I' has a metric 'wga'; use some of accuracy, "):
        Quoted("DDB-I", "digits", {"wga": 91.4}, "somebody")


def test_a_selection_that_does_not_exist_is_refused() -> None:
    unknown: Any = "best"
    with pytest.raises(ConfigError, match="selection is 'best', expected one of last, "):
        summarize([], unknown)


def test_reads_what_the_results_writer_writes(tmp_path: Path) -> None:
    runs = [
        {
            "method": "plain",
            "data": "d",
            "ratio": ratio,
            "seed": 0,
            "oracle": False,
            "accuracy": 0.5,
        }
        for ratio in (0.98, None)
    ]
    write_csv(tmp_path / "results.csv", runs)
    found = read(tmp_path / "results.csv")
    assert [(row["ratio"], row["metric"], row["value"]) for row in found] == [
        ("0.98", "oracle", "0.0"),
        ("0.98", "accuracy", "0.5"),
        ("", "oracle", "0.0"),
        ("", "accuracy", "0.5"),
    ]
    assert [section.ratio for section in summarize(found, "last")] == [0.98, None]


HEADER = "method,data,ratio,seed,metric,value\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"method,data,seed,metric,value\nplain,d,0,accuracy,0.5\n",
        b"\x89PNG\r\n\x1a\n\xff",
        f"{HEADER}plain,d,0.98,0,accuracy\n".encode(),
        f"{HEADER}plain,d,0.98,0,accuracy,0.5,1\n".encode(),
        f"{HEADER}plain,d,0.98,0,accuracy,half\n".encode(),
        f"{HEADER}plain,d,0.98,0,accuracy,\n".encode(),
        f"{HEADER}plain,d,much,0,accuracy,0.5\n".encode(),
    ],
    ids=["empty", "header", "binary", "few", "many", "text", "no value", "ratio"],
)
def test_a_file_of_another_kind_is_refused_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "results.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        read(path)
    assert str(refused.value) == (
        f"{path} was written by another version or is damaged, expected the columns "
        "method,data,ratio,seed,metric,value and numbers as values; delete it or choose another "
        "folder."
    )


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read .No such file or directory.; name the"):
        read(tmp_path / "results.csv")
