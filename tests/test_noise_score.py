"""Wrong labels are told from conflicting ones by whether the model takes them up."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from online_debias.callbacks import EnD, NoiseScore, Reweight
from online_debias.engine import Batch, Run
from online_debias.functional.scores.doubt import doubt
from online_debias.functional.scores.two_groups import two_groups
from tests.conftest import keep

torch.set_num_threads(1)
CLASSES = 3
SAMPLES = torch.arange(6)


def made(**settings: float) -> NoiseScore:
    callback = NoiseScore(**settings)  # type: ignore[arg-type]
    callback.run = Run(6, CLASSES, torch.device("cpu"), 0, lambda name, value: None)
    callback.run.shortcut.seek(callback.requires)
    callback.setup(callback.run)
    return callback


def step(
    callback: NoiseScore,
    logits: Tensor,
    epoch: int,
    mixed: Tensor | None = None,
    score: float = 0.9,
    seen: bool = True,
) -> Batch:
    """Six samples of class 0 that look like class 1, if a shortcut is seen."""
    callback.run.epoch = epoch
    batch = Batch(
        0, epoch, SAMPLES, torch.zeros(6, 1), torch.zeros(6, dtype=torch.long),
        torch.ones(6), torch.zeros(6, dtype=torch.bool) if mixed is None else mixed, logits,
    )  # fmt: skip
    known = torch.full((6,), seen)
    batch.publish("conflict", torch.full((6,), score), known)
    batch.publish("bias_label", torch.ones(6, dtype=torch.long), known)
    callback.run.shortcut.see(torch.tensor(seen))
    callback.on_features(batch)
    keep(callback.run.samples, batch)
    callback.on_step_end(batch)
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
    callback: NoiseScore, takes_up: list[bool], number: int, score: float = 0.9, seen: bool = True
) -> Batch:
    """A whole epoch of one batch."""
    batch = step(callback, sided(takes_up), number, score=score, seen=seen)
    callback.on_epoch_end(callback.run)
    callback.run.epoch = number + 1
    return batch


def read(callback: NoiseScore, signal: str) -> list[float]:
    """What the run knows of the samples, less what is noise."""
    return callback.run.samples.values(signal, unless="noise").tolist()


TAKEN_UP = [True, True, True, False, False, True]


def test_labels_that_the_model_does_not_take_up_count_as_aligned() -> None:
    callback = made(warmup=2)
    early = epoch(callback, [False] * 6, number=0)  # it still follows the bias
    assert read(callback, "conflict") == pytest.approx([0.9] * 6)
    assert early.signals["noise"].tolist() == [0.0] * 6 and not early.known["noise"].any()
    epoch(callback, TAKEN_UP, number=1)
    late = epoch(callback, TAKEN_UP, number=2)
    assert read(callback, "conflict") == pytest.approx([0.9 * side for side in TAKEN_UP])
    assert read(callback, "bias_label") == [int(side) for side in TAKEN_UP]
    assert late.signals["conflict"].tolist() == pytest.approx([0.9] * 6)  # as it was published
    assert callback.run.samples.flagged("noise").tolist() == [not side for side in TAKEN_UP]
    assert callback.findings() == {"suspected_noise": 2}


def test_who_acts_on_a_row_asks_whether_it_is_flagged() -> None:
    callback = made(warmup=1)
    for number in range(2):
        batch = epoch(callback, TAKEN_UP, number)
    for unless, side in (("noise", TAKEN_UP), (None, [True] * 6)):
        reweight, end = (
            Reweight(unless=unless, name=f"{unless}"),
            EnD(unless=unless, alpha=0, beta=1),
        )
        batch.features = {"bottleneck": torch.randn(6, 4)}
        batch.terms = {}
        for action in (reweight, end):
            action.run = callback.run
            action.on_loss(batch)
        factor = [10.0 if conflicts else 1.0 for conflicts in side]
        assert batch.factors[f"{unless}"].tolist() == pytest.approx(factor, rel=1e-5)
        # Only if flagged rows count as aligned does their bias label differ from the others'.
        assert bool(batch.terms["end"] > 0) is (unless == "noise")


def test_doubts_that_do_not_part_flag_nobody() -> None:
    """All conflicting images are hard, some more than others."""
    callback = made(warmup=1)
    logits = torch.tensor([[0.0, x, 0.0] for x in (-2.0, -1.0, -0.3, 0.3, 1.0, 2.0)])
    step(callback, logits, epoch=0)
    callback.on_epoch_end(callback.run)
    assert float(callback.run.samples.thresholds["noise"]) == math.inf
    assert all(read(callback, "conflict"))


def test_the_lower_of_two_groups_of_doubts_is_never_flagged_below_a_half() -> None:
    callback = made(warmup=1)
    logits = torch.tensor([[0.0, x, 0.0] for x in (-9.0, -9.0, -9.0, -1.0, -1.0, -1.0)])
    for number in range(2):
        step(callback, logits, epoch=number)
        callback.on_epoch_end(callback.run)
    assert float(callback.run.samples.thresholds["noise"]) == 0.5
    assert all(read(callback, "conflict"))


def test_rows_that_do_not_contradict_the_view_are_not_doubted() -> None:
    callback = made(warmup=1)
    for number in range(4):
        last = epoch(callback, TAKEN_UP, number, score=0.4)
    assert last.signals["noise"].tolist() == [0.0] * 6 and not last.known["noise"].any()
    assert read(callback, "conflict") == pytest.approx([0.4] * 6)
    assert callback.findings() == {"suspected_noise": 0}


def test_a_run_too_short_to_tell_says_nothing() -> None:
    callback = made(warmup=4)
    for number in range(3):
        epoch(callback, TAKEN_UP, number)
    assert callback.findings() == {}
    assert callback.run.samples.values("noise").isnan().all()


def test_while_no_shortcut_is_seen_nobody_is_flagged_and_no_epoch_counts() -> None:
    callback = made(warmup=2)
    samples = callback.run.samples
    for number in range(5):
        epoch(callback, TAKEN_UP, number, seen=False)
    assert callback.findings() == {} and samples.values("noise").isnan().all()
    flagged = []
    for number in range(5, 8):  # from here on it is as at the beginning of a run
        step(callback, sided(TAKEN_UP), number)
        flagged.append(int(samples.flagged("noise").sum()))
        callback.on_epoch_end(callback.run)
    assert flagged == [0, 0, 2]
    epoch(callback, TAKEN_UP, 8, seen=False)
    assert callback.findings() == {} and float(samples.thresholds["noise"]) == math.inf
    assert samples.values("noise").isnan().all()


def test_a_sample_that_is_taken_up_after_all_is_freed() -> None:
    callback = made(warmup=1)
    for number in range(2):
        epoch(callback, TAKEN_UP, number)
    assert callback.run.samples.flagged("noise").sum() == 2
    for number in range(2, 5):
        epoch(callback, [True, True, True, True, False, True], number)
    assert callback.run.samples.flagged("noise").sum() == 1


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_run_goes_on_where_it_stopped(epochs: int) -> None:
    one, other = made(warmup=2), made(warmup=2)
    for number in range(epochs):
        epoch(one, TAKEN_UP, number)
    other.load_state_dict(one.state_dict())
    other.run.samples.load_state_dict(one.run.samples.state_dict())
    other.run.shortcut.load_state_dict(one.run.shortcut.state_dict())
    assert other.findings() == one.findings() == ({} if epochs == 1 else {"suspected_noise": 2})
    assert read(other, "conflict") == read(one, "conflict")
    epoch(one, TAKEN_UP, epochs)
    epoch(other, TAKEN_UP, epochs)
    assert other.findings() == one.findings() == {"suspected_noise": 2}


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
    callback = made(warmup=1)
    step(callback, sided([False] * 6), epoch=0)
    mixed = torch.tensor([True] + [False] * 5)
    step(callback, sided([True] * 6), epoch=0, mixed=mixed)
    noise = callback.run.samples.values("noise")
    high, low = 1 / (1 + math.exp(-4)), 1 / (1 + math.exp(4))
    assert float(noise[0]) == pytest.approx(high, abs=1e-6)
    assert float(noise[1]) == pytest.approx(0.7 * high + 0.3 * low, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"separation": 1.0}, "separation is 1.0, expected a number between 0 and 1"),
        ({"warmup": 0}, "warmup is 0, expected at least 1 epoch"),
    ],
)
def test_wrong_arguments_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"NoiseScore: {message}"):
        made(**settings)
