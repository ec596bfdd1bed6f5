"""Scalars are read in bulk, and a loss that is not finite is traced to its source."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from online_debias.errors import NonFiniteLossError
from online_debias.memory.recorder import Recorder, Scalar

torch.set_num_threads(1)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder(torch.device("cpu"))


def test_a_flush_gives_the_mean_of_each_name_at_its_last_step(recorder: Recorder) -> None:
    noted: list[tuple[int, int, str, Tensor | float]] = [
        (3, 0, "train/loss", torch.tensor(2.0)),
        (3, 0, "time/step_ms", 10.0),
        (4, 0, "train/loss", torch.tensor(4.0)),
        (5, 1, "train/loss", torch.tensor(9.0)),
        (5, 1, "detect/mean_score", torch.tensor(0.5)),
    ]
    for step, epoch, name, value in noted:
        recorder.add(step, epoch, name, value)
    assert recorder.flush() == [
        Scalar(5, 1, "train/loss", 5.0),
        Scalar(3, 0, "time/step_ms", 10.0),
        Scalar(5, 1, "detect/mean_score", 0.5),
    ]


def test_what_was_read_is_not_read_again(recorder: Recorder) -> None:
    recorder.add(0, 0, "train/loss", torch.tensor(1.0))
    recorder.flush()
    assert recorder.flush() == []
    recorder.add(1, 0, "train/loss", torch.tensor(3.0))
    assert recorder.flush() == [Scalar(1, 0, "train/loss", 3.0)]


def test_tensors_of_any_type_and_floats_keep_their_places(recorder: Recorder) -> None:
    values: list[Tensor | float] = [
        torch.tensor(1.5, dtype=torch.bfloat16),
        2.5,
        torch.tensor(3),
        torch.tensor(0.1, dtype=torch.float64),
        torch.tensor(4.5, requires_grad=True) * 1,
    ]
    for i, value in enumerate(values):
        recorder.add(0, 0, f"group/{i}", value)
    assert [scalar.value for scalar in recorder.flush()] == [1.5, 2.5, 3.0, 0.1, 4.5]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("train/loss", "the model's output or the criterion; try a lower learning rate"),
        ("weights/reweight", "the weight factor of callback 'reweight'"),
        ("terms/end", "the loss term of callback 'end'"),
    ],
)
def test_a_loss_that_is_not_finite_names_its_step_and_source(
    recorder: Recorder, name: str, source: str, value: float
) -> None:
    recorder.add(6, 0, name, torch.tensor(1.0))
    recorder.add(7, 0, name, torch.tensor(value))
    recorder.add(8, 0, name, torch.tensor(math.nan))
    with pytest.raises(NonFiniteLossError) as error:
        recorder.flush()
    assert str(error.value) == f"{name} became {value} in step 7: it comes from {source}."


def test_the_first_contributor_that_is_not_finite_is_named(recorder: Recorder) -> None:
    recorder.add(2, 0, "terms/end", torch.tensor(math.nan))
    recorder.add(3, 0, "train/loss", torch.tensor(math.nan))
    with pytest.raises(NonFiniteLossError, match="^terms/end became nan in step 2"):
        recorder.flush()


def test_what_does_not_enter_the_loss_may_be_nan(recorder: Recorder) -> None:
    recorder.add(0, 0, "detect/auroc", torch.tensor(math.nan))
    recorder.add(0, 0, "detect/mean_score", math.inf)
    recorder.add(0, 0, "train/loss", torch.tensor(1.0))
    values = {scalar.name: scalar.value for scalar in recorder.flush()}
    expected = {"detect/auroc": math.nan, "detect/mean_score": math.inf, "train/loss": 1.0}
    assert values == pytest.approx(expected, nan_ok=True)


def test_opposite_infinities_have_no_mean_and_raise_nothing(recorder: Recorder) -> None:
    recorder.add(0, 0, "detect/margin", math.inf)
    recorder.add(1, 0, "detect/margin", -math.inf)
    (scalar,) = recorder.flush()
    assert math.isnan(scalar.value)
