"""Wrong labels are told from conflicting ones by whether the model takes them up."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from online_debias.callbacks import NoiseFilter
from online_debias.engine import Batch, Run
from online_debias.functional.scores.doubt import doubt
from online_debias.functional.scores.two_groups import two_groups

torch.set_num_threads(1)
CLASSES = 3


def made(**settings: float) -> NoiseFilter:
    callback = NoiseFilter(**settings)  # type: ignore[arg-type]
    callback.run = Run(6, CLASSES, torch.device("cpu"), 0, lambda name, value: None)
    callback.setup(callback.run)
    return callback


def step(
    callback: NoiseFilter,
    logits: Tensor,
    epoch: int,
    mixed: Tensor | None = None,
    score: float = 0.9,
    withheld: bool = False,
) -> Batch:
    """Six samples of class 0 that look like class 1."""
    callback.run.epoch = epoch
    batch = Batch(
        0, epoch, torch.arange(6), torch.zeros(6, 1), torch.zeros(6, dtype=torch.long),
        torch.ones(6), torch.zeros(6, dtype=torch.bool) if mixed is None else mixed, logits,
    )  # fmt: skip
    batch.publish("conflict", torch.full((6,), score))
    batch.publish("bias_group", torch.ones(6, dtype=torch.long))
    for signal in ("conflict", "bias_group"):
        batch.withhold(signal, torch.full((6,), withheld))
    callback.on_features(batch)
    return batch


def sided(rows: list[bool]) -> Tensor:
    """Logits of a model that sides with the label in these rows, else with the view."""
    return torch.tensor([[4.0, 0.0, 0.0] if side else [0.0, 4.0, 0.0] for side in rows])


def test_doubt_equals_a_plain_computation() -> None:
    stream = torch.Generator().manual_seed(0)
    logits = torch.randn(60, 5, generator=stream)
    targets, seen = torch.arange(60) % 5, torch.randint(5, (60,), generator=stream)
    found = doubt(logits, targets, seen)
    for row, (value, target, view) in enumerate(zip(found, targets, seen, strict=True)):
        chance = logits[row].softmax(0).tolist()
        own, against = chance[int(target)], chance[int(view)]
        assert float(value) == pytest.approx(against / (against + own), abs=1e-6)


def test_doubt_stays_finite_far_out() -> None:
    logits = torch.tensor([[3e38, -3e38], [-3e38, 3e38]])
    assert doubt(logits, torch.tensor([0, 0]), torch.tensor([1, 1])).tolist() == [0.0, 1.0]


def epoch(
    callback: NoiseFilter,
    takes_up: list[bool],
    number: int,
    score: float = 0.9,
    withheld: bool = False,
) -> Batch:
    """A whole epoch of one batch."""
    batch = step(callback, sided(takes_up), number, score=score, withheld=withheld)
    callback.on_epoch_end(callback.run)
    callback.run.epoch = number + 1
    return batch


TAKEN_UP = [True, True, True, False, False, True]


def test_labels_that_the_model_does_not_take_up_lose_their_scores() -> None:
    callback = made(warmup=2)
    early = epoch(callback, [False] * 6, number=0)  # it still follows the bias
    assert early.signals["conflict"].tolist() == pytest.approx([0.9] * 6)
    assert early.signals["noise"].tolist() == [0.0] * 6
    epoch(callback, TAKEN_UP, number=1)
    late = epoch(callback, TAKEN_UP, number=2)
    assert late.signals["conflict"].tolist() == pytest.approx([0.9 * side for side in TAKEN_UP])
    assert late.signals["bias_group"].tolist() == [int(side) for side in TAKEN_UP]
    assert late.published["conflict"].tolist() == pytest.approx([0.9] * 6)
    assert callback.findings() == {"suspected_noise": 2}


def test_doubts_that_do_not_part_suspect_nobody() -> None:
    """All conflicting images are hard, some more than others."""
    callback = made(warmup=1)
    logits = torch.tensor([[0.0, x, 0.0] for x in (-2.0, -1.0, -0.3, 0.3, 1.0, 2.0)])
    step(callback, logits, epoch=0)
    callback.on_epoch_end(callback.run)
    assert float(callback.threshold) == float("inf")
    assert step(callback, logits, epoch=1).signals["conflict"].all()


def test_the_lower_of_two_groups_of_doubts_is_never_suspected_below_a_half() -> None:
    callback = made(warmup=1)
    logits = torch.tensor([[0.0, x, 0.0] for x in (-9.0, -9.0, -9.0, -1.0, -1.0, -1.0)])
    for number in range(2):
        last = step(callback, logits, epoch=number)
        callback.on_epoch_end(callback.run)
    assert float(callback.threshold) == 0.5 and last.signals["conflict"].all()


def test_rows_that_do_not_contradict_the_view_are_not_suspected() -> None:
    callback = made(warmup=1)
    for number in range(4):
        last = epoch(callback, TAKEN_UP, number, score=0.4)
    assert last.signals["noise"].tolist() == [0.0] * 6
    assert last.signals["conflict"].tolist() == pytest.approx([0.4] * 6)
    assert callback.findings() == {"suspected_noise": 0}


def test_a_run_too_short_to_tell_says_nothing() -> None:
    callback = made(warmup=4)
    for number in range(3):
        epoch(callback, TAKEN_UP, number)
    assert callback.findings() == {}


def test_while_scores_are_withheld_nobody_is_suspected_and_no_epoch_counts() -> None:
    callback = made(warmup=2)
    for number in range(5):
        epoch(callback, TAKEN_UP, number, withheld=True)
    assert callback.findings() == {} and callback.doubts.values.isnan().all()
    suspected = []
    for number in range(5, 8):  # from here on it is as at the beginning of a run
        batch = epoch(callback, TAKEN_UP, number)
        suspected.append(6 - int(batch.signals["conflict"].count_nonzero()))
    assert suspected == [0, 0, 2]
    epoch(callback, TAKEN_UP, 8, withheld=True)
    assert callback.findings() == {} and float(callback.threshold) == float("inf")


def test_a_row_that_is_taken_up_after_all_is_freed() -> None:
    callback = made(warmup=1, momentum=0.5)
    epoch(callback, TAKEN_UP, number=0)
    assert epoch(callback, TAKEN_UP, number=1).signals["conflict"].count_nonzero() == 4
    for number in range(2, 5):
        last = epoch(callback, [True, True, True, True, False, True], number)
    assert last.signals["conflict"].count_nonzero() == 5


def slow_two_groups(values: list[float]) -> tuple[float, float]:
    """Every split of the sorted values, one after the other."""
    ordered = sorted(values)
    mean = sum(ordered) / len(ordered)
    spread = sum((x - mean) ** 2 for x in ordered) / len(ordered)
    found = (float("inf"), 0.0)
    for n in range(1, len(ordered)):
        low, high = ordered[:n], ordered[n:]
        sides = sum(len(s) * (sum(s) / len(s) - mean) ** 2 for s in (low, high)) / len(ordered)
        if sides / spread > found[1] + 1e-12:
            found = ((low[-1] + high[0]) / 2, sides / spread)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_two_groups_equals_trying_every_split(seed: int) -> None:
    stream = torch.Generator().manual_seed(seed)
    values = torch.rand(20 + seed, generator=stream, dtype=torch.float64) ** (seed + 1)
    threshold, share = two_groups(torch.cat([values, values.new_full((3,), float("nan"))]))
    expected = slow_two_groups(values.tolist())
    assert (float(threshold), float(share)) == pytest.approx(expected)


@pytest.mark.parametrize("values", [[], [0.3], [0.3, 0.3], [float("nan")] * 3])
def test_fewer_than_two_unlike_values_have_no_groups(values: list[float]) -> None:
    threshold, share = two_groups(torch.tensor(values))
    assert (float(threshold), float(share)) == (float("inf"), 0.0)


def test_noise_is_the_moving_average_of_the_doubt_in_unmixed_rows() -> None:
    callback = made(warmup=1, momentum=0.7)
    step(callback, sided([False] * 6), epoch=0)
    mixed = torch.tensor([True] + [False] * 5)
    noise = step(callback, sided([True] * 6), epoch=0, mixed=mixed).signals["noise"]
    high, low = 1 / (1 + math.exp(-4)), 1 / (1 + math.exp(4))
    assert float(noise[0]) == pytest.approx(high, abs=1e-6)
    assert float(noise[1]) == pytest.approx(0.7 * high + 0.3 * low, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"separation": 1.0}, "separation is 1.0"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"warmup": 0}, "warmup is 0"),
    ],
)
def test_wrong_arguments_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(**settings)
