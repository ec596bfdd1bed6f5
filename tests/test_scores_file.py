"""Everything that scores.csv says of the training samples, written and read back."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path

import pytest
import torch

from online_debias.runtime import scores_csv
from online_debias.runtime.scores_csv import Details, Scores

NAN = math.nan
SCORES = Scores(torch.tensor([2, 0, 1]), torch.tensor([0.25, NAN, 0.75]), torch.tensor([2, -1, -1]))
DETAILS = Details(
    ("a/ü.png", 'b, "c".png', "d.png"),
    torch.tensor([7, 0, 3]),
    torch.tensor([0.5, NAN, 12.0]),
    torch.tensor([0.125, NAN, 1.0]),
)


def test_the_file_has_a_column_for_everything_and_nothing_for_what_is_not_known(
    tmp_path: Path,
) -> None:
    scores_csv.write(tmp_path / "all.csv", SCORES, DETAILS)
    with (tmp_path / "all.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["index", "path", "target", "score", "bias_label", "times_drawn", "loss", "noise"],
        ["0", "a/ü.png", "2", "0.25", "2", "7", "0.5", "0.125"],
        ["1", 'b, "c".png', "0", "", "", "0", "", ""],
        ["2", "d.png", "1", "0.75", "", "3", "12", "1"],
    ]
    scores_csv.write(tmp_path / "few.csv", SCORES)
    assert (tmp_path / "few.csv").read_text().splitlines()[1:] == [
        "0,,2,0.25,2,,,", "1,,0,,,,,", "2,,1,0.75,,,,",
    ]  # fmt: skip


def test_reading_everything_gives_back_what_was_written(tmp_path: Path) -> None:
    scores_csv.write(tmp_path / "scores.csv", SCORES, DETAILS)
    found, details = scores_csv.read_all(tmp_path / "scores.csv")
    assert details.paths == DETAILS.paths
    for given, back in zip((*SCORES, *DETAILS[1:]), (*found, *details[1:]), strict=True):
        assert given is not None and back is not None and given.dtype == back.dtype
        torch.testing.assert_close(back, given, rtol=0, atol=0, equal_nan=True)


def test_what_is_not_known_is_read_as_nothing(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("index,target,score,bias_label\n0,1,0.5,2\n")
    assert scores_csv.read_all(tmp_path / "scores.csv")[1] == Details()
    scores_csv.write(tmp_path / "scores.csv", SCORES)
    assert scores_csv.read_all(tmp_path / "scores.csv")[1] == Details()


def test_unseen_samples_are_pseudo_labels_that_look_bias_aligned(tmp_path: Path) -> None:
    scores_csv.write(tmp_path / "scores.csv", SCORES, DETAILS)
    targets, score, group = scores_csv.read(tmp_path / "scores.csv")
    assert targets.tolist() == [2, 0, 1]
    assert score.tolist() == [0.25, 0.0, 0.75]
    assert group.tolist() == [2, 0, 1]


def test_a_group_without_a_score_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("index,target,score,bias_label\n0,1,,2\n")
    assert scores_csv.read(tmp_path / "scores.csv").bias_label.tolist() == [1]


def test_names_of_files_that_are_no_text_come_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff.png")
    details = Details(paths=(name, "b.png", "c.png"))
    scores_csv.write(tmp_path / "scores.csv", SCORES, details)
    assert scores_csv.read_all(tmp_path / "scores.csv")[1].paths == details.paths


@pytest.mark.parametrize(("column", "cell"), [("loss", "high"), ("noise", "inf"), ("loss", "nan")])
def test_a_further_column_that_holds_no_numbers_is_one_sentence(
    column: str, cell: str, tmp_path: Path
) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(f"index,target,score,bias_label,{column}\n0,0,0.5,0,{cell}\n")
    message = rf"other than numbers in its column {column} \(.*{cell}.*; mend it"
    with pytest.raises(ValueError, match=message) as caught:
        scores_csv.read_all(path)
    assert "\n" not in str(caught.value)
    assert scores_csv.read(path).score.tolist() == [0.5]  # pseudo-labels do without it


@pytest.mark.parametrize("cell", ["", "one"])
def test_a_target_that_is_missing_or_a_word_is_one_sentence(cell: str, tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text(f"index,target,score,bias_label\n0,{cell},0.5,0\n")
    with pytest.raises(ValueError, match="expected a CSV file with the columns"):
        scores_csv.read(tmp_path / "scores.csv")
