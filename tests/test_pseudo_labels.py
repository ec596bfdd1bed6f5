"""scores.csv, and the callback that publishes it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from online_debias.callbacks import EnD, PseudoLabels, Resample
from online_debias.runtime import scores_csv
from tests.conftest import make_images, make_trainer

LABELS = scores_csv.Scores(
    torch.tensor([0, 1, 1]), torch.tensor([0.25, 1.0, 1 / 3]), torch.tensor([0, 4, 1])
)


def test_reading_gives_back_what_was_written(tmp_path: Path) -> None:
    scores_csv.write(tmp_path / "scores.csv", LABELS)
    text = (tmp_path / "scores.csv").read_text()
    assert text.splitlines()[:2] == [",".join(scores_csv.COLUMNS), "0,,0,0.25,0,,,"]
    targets, score, group = scores_csv.read(tmp_path / "scores.csv")
    assert torch.equal(targets, LABELS.targets) and torch.equal(group, LABELS.bias_label)
    torch.testing.assert_close(score, LABELS.score, rtol=0, atol=1e-6)


HEAD = "index,target,score,bias_label\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "There is no file of scores"),
        ("index,target\n0,1\n", "cannot be read as scores, expected a CSV file with the columns"),
        (HEAD, "has no rows"),
        (HEAD + "0,0,high,0\n", "cannot be read as scores"),
        (HEAD + "1,0,0.5,0\n", "samples left out"),
        (HEAD + "0,0,0.5,0.5\n", "samples left out or labels that are no numbers"),
        (HEAD + "0,0,1.5,0\n", r"a score outside \[0, 1\]"),
        (HEAD + "0,0,nan,0\n", "cannot be read as scores"),
        (HEAD + "0,0,0.5,-1\n", "a bias_label below 0"),
    ],
)
def test_a_file_that_is_something_else_is_one_sentence(
    content: str | None, message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "scores.csv").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        scores_csv.read(tmp_path / "scores.csv")
    assert "\n" not in str(caught.value)


def test_further_columns_are_left_aside(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("index,target,score,bias_label,path\n0,1,0.5,2,a.png\n")
    assert scores_csv.read(tmp_path / "scores.csv").bias_label.tolist() == [2]


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_rows_get_the_labels_of_their_samples(threshold: float | None, tmp_path: Path) -> None:
    images = make_images()
    stream = torch.Generator().manual_seed(3)
    score = torch.rand(240, generator=stream).round(decimals=4)
    group = torch.randint(5, (240,), generator=stream)
    scores_csv.write(tmp_path / "scores.csv", scores_csv.Scores(images.targets, score, group))
    labels = PseudoLabels(tmp_path / "scores.csv", threshold)
    trainer = make_trainer([labels, EnD(), Resample()], images, epochs=1, batch_size=48)
    index, inputs, targets = next(iter(trainer.loader))
    batch = trainer.engine.start_step(index, inputs, targets)
    trainer.engine.loss(batch, trainer.model(batch.inputs))
    expected = score[index] if threshold is None else (score[index] > threshold).float()
    torch.testing.assert_close(batch.signals["conflict"], expected, rtol=0, atol=1e-6)
    assert torch.equal(batch.signals["bias_label"], group[index])
    assert trainer.engine.run.values_of("bias_label") == 5


def test_labels_of_another_training_set_are_refused(tmp_path: Path) -> None:
    scores_csv.write(tmp_path / "scores.csv", LABELS)
    with pytest.raises(ValueError, match=r"has 3 rows, but there are 240 training samples"):
        make_trainer([PseudoLabels(tmp_path / "scores.csv"), Resample()])


def test_a_threshold_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"threshold is 1.0, expected 0 <= threshold < 1"):
        PseudoLabels(threshold=1.0)
