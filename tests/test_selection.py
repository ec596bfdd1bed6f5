"""Which epoch counts: live, while a run trains, and afterwards from its metrics.csv."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import pytest

from online_debias.cli.main import main
from online_debias.comparison.summary import SELECTED
from online_debias.errors import ConfigError
from online_debias.training.epoch_selection import BestEpoch, Selection, check_patience, select

PSEUDO = "accuracy_pseudo_unbiased"
RESULTS = {"accuracy": 0.5, "accuracy_unbiased": 0.25, "oracle": False, "selection": "last"}


def metrics(folder: Path, **columns: list[float | None]) -> Path:
    """A metrics.csv: a column each of validation metrics, and of the test accuracy."""
    path = folder / "metrics.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "epoch", "split", "name", "value"])
        for name, values in columns.items():
            split, name = ("test", "accuracy") if name == "test" else ("validation", name)
            for epoch, value in enumerate(values, 1):
                if value is not None:
                    writer.writerow([10 * epoch, epoch, split, name, value])
    return path


def test_pseudo_groups_choose_the_epoch_and_make_no_oracle(tmp_path: Path) -> None:
    path = metrics(
        tmp_path,
        accuracy=[0.9, 0.8, 0.7, 0.6],
        accuracy_pseudo_unbiased=[None, 0.5, 0.7, 0.7],
        accuracy_unbiased=[0.1, 0.2, 0.3, 0.4],
        test=[0.11, 0.22, 0.33, 0.44],
    )
    chosen = {rule: select(RESULTS, path, rule)["accuracy"] for rule in get_args(Selection)}
    assert chosen == {
        "last": 0.5,
        "best-biased-validation": 0.11,
        "pseudo-group-validation": 0.33,  # the first of two that are equally good
        "oracle-validation": 0.44,
    }
    found = select(RESULTS, path, "pseudo-group-validation")
    assert (found["oracle"], found["selection"]) == (False, "pseudo-group-validation")


def test_a_run_without_a_biased_view_is_judged_by_accuracy(tmp_path: Path) -> None:
    path = metrics(tmp_path, accuracy=[0.7, 0.9, 0.8], test=[0.1, 0.2, 0.3])
    assert select(RESULTS, path, "pseudo-group-validation")["accuracy"] == 0.2


def test_a_run_without_a_validation_split_is_refused(tmp_path: Path) -> None:
    path = metrics(tmp_path, test=[0.1, 0.2])
    with pytest.raises(ConfigError, match="'pseudo-group-validation', but .* has no accuracy on a"):
        select(RESULTS, path, "pseudo-group-validation")


def test_every_rule_has_words_for_the_tables() -> None:
    assert set(SELECTED) == set(get_args(Selection))


def test_the_best_epoch_so_far_is_the_one_that_select_finds(tmp_path: Path) -> None:
    for pseudo, missed in (
        ([None, 0.2, 0.4, 0.4, 0.3, 0.4], [0, 0, 0, 1, 2, 3]),
        ([None, 0.2, None, 0.4, 0.3, 0.4], [0, 0, 0, 0, 1, 2]),
        ([0.8, 0.9, 0.4, 0.7, None, None], [0, 0, 1, 2, 0, 0]),  # a verdict that was taken back
        ([None] * 6, [0, 0, 0, 1, 2, 3]),
    ):
        accuracy = [0.5, 0.9, 0.95, 0.7, 0.8, 0.95]
        best, kept, waited = BestEpoch(), 0, []
        for epoch, (plain, group) in enumerate(zip(accuracy, pseudo, strict=True), 1):
            given = {"accuracy": plain} | ({} if group is None else {PSEUDO: group})
            if best.better(given):
                kept = epoch
            waited.append(best.waited)
            best = BestEpoch(**asdict(best))  # as a resumed run has it
        path = metrics(
            tmp_path, accuracy=accuracy, accuracy_pseudo_unbiased=pseudo, test=[1, 2, 3, 4, 5, 6]
        )
        assert select(RESULTS, path, "pseudo-group-validation")["accuracy"] == kept
        assert waited == missed


def test_patience_without_a_validation_split_is_refused() -> None:
    with pytest.raises(ValueError, match="patience is 3, but the data has no .*hold some"):
        check_patience(3, {"test"})


def test_the_command_says_why_it_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--method", "plain", "--batch_size", "24", "--epochs", "40", "--patience", "2"]
    folder = tmp_path / "run"
    main(["train", "--data", "tests.own.Shapes", *settings, "--run", str(folder)])
    told = capsys.readouterr().err
    assert "Training was stopped: no evaluation of the last 2 was better than" in told
    assert "epoch 40/40" not in told and (folder / "results.json").is_file()
