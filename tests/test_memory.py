"""What is remembered of each sample, against a dictionary."""

from __future__ import annotations

import math

import pytest
import torch

from online_debias.engine import Batch, SampleMemory
from online_debias.functional.by_index import mean_by_index

torch.set_num_threads(1)


@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_memory_is_a_moving_average_a_sample(momentum: float) -> None:
    source = torch.Generator().manual_seed(0)
    memory, expected = SampleMemory(12, momentum), dict[int, float]()
    duplicates = left_out = 0
    for _ in range(40):
        index = torch.randint(10, (8,), generator=source)  # samples 10 and 11 are never seen
        value = torch.rand(8, generator=source)
        keep = torch.rand(8, generator=source) < 0.7
        memory.update(index, value, keep)
        seen: dict[int, list[float]] = {}
        for i, v, k in zip(index.tolist(), value.tolist(), keep.tolist(), strict=True):
            if k:
                seen.setdefault(i, []).append(v)
            left_out += not k
        for i, values in seen.items():
            new = sum(values) / len(values) if momentum else values[-1]
            old = expected.get(i)
            expected[i] = new if old is None else momentum * old + (1 - momentum) * new
            duplicates += len(values) > 1
        remembered = [expected.get(i, math.nan) for i in range(12)]
        assert memory.values.tolist() == pytest.approx(remembered, abs=1e-5, nan_ok=True)
    assert duplicates and left_out


def test_memory_is_nan_until_a_sample_is_seen() -> None:
    memory = SampleMemory(3, momentum=0.9)
    memory.update(torch.tensor([1]), torch.tensor([0.25]), torch.tensor([True]))
    assert memory.values.tolist() == pytest.approx([math.nan, 0.25, math.nan], nan_ok=True)


def test_rows_that_are_not_kept_change_nothing() -> None:
    memory = SampleMemory(3)
    memory.update(torch.tensor([0, 2]), torch.tensor([1.0, 2.0]), torch.tensor([True, True]))
    before = memory.values.clone()
    memory.update(torch.tensor([0, 1, 2]), torch.full((3,), 9.0), torch.zeros(3).bool())
    torch.testing.assert_close(memory.values, before, equal_nan=True, rtol=0, atol=0)


def test_a_signal_is_followed_as_far_as_it_is_known_and_not_where_it_is_hushed() -> None:
    memory, index = SampleMemory(4), torch.arange(4)
    for hushed in (False, True):
        batch = Batch(0, 0, index, torch.zeros(4, 1), torch.zeros(4).long(), torch.ones(4),
                      torch.tensor([True, False, False, False]))  # fmt: skip
        batch.publish("conflict", torch.full((4,), 0.5))
        batch.withhold("conflict", torch.tensor([False, True, False, False]))
        if hushed:
            batch.hush("conflict")
        memory.follow(batch, "conflict")
        seen = [] if hushed else [2, 3]
        assert memory.read(index).nan_to_num(-1).eq(0.5).nonzero().flatten().tolist() == seen


@pytest.mark.parametrize(("momentum", "expected"), [(0.5, 2.0), (0.0, 3.0)])
def test_a_duplicate_counts_only_with_its_kept_rows(momentum: float, expected: float) -> None:
    """Scores are averaged; a label, which has no mean, is the last one."""
    memory, index = SampleMemory(6, momentum), torch.tensor([5, 5, 5])
    memory.update(index, torch.tensor([1.0, 3.0, 100.0]), torch.tensor([True, True, False]))
    assert memory.read(index).tolist() == [expected] * 3


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_that_is_not_finite_spoils_no_other_sample(bad: float) -> None:
    memory = SampleMemory(4)
    index, keep = torch.tensor([0, 1, 2]), torch.tensor([True, False, True])
    memory.update(index, torch.tensor([1.0, bad, 3.0]), keep)
    assert memory.values.tolist() == pytest.approx([1.0, math.nan, 3.0, math.nan], nan_ok=True)


def test_memory_reads_samples_in_any_order_and_more_than_once() -> None:
    memory = SampleMemory(4)
    memory.update(torch.arange(4), torch.arange(4) * 10, torch.ones(4).bool())
    assert memory.read(torch.tensor([3, 0, 3])).tolist() == [30.0, 0.0, 30.0]


def test_memory_is_saved_with_the_module() -> None:
    memory, other = SampleMemory(4, momentum=0.5), SampleMemory(4, momentum=0.5)
    memory.update(torch.tensor([1, 2]), torch.tensor([0.5, 0.75]), torch.ones(2).bool())
    other.load_state_dict(memory.state_dict())
    torch.testing.assert_close(other.values, memory.values, equal_nan=True)


def test_rows_of_one_sample_get_their_mean_with_the_same_bits() -> None:
    source = torch.Generator().manual_seed(0)
    for n in (1, 5, 128, 200):
        index = torch.randint(max(1, n // 4), (n,), generator=source)
        value = torch.randn(n, generator=source)
        mean = mean_by_index(index, value)
        for i in index.unique():
            rows = mean[index == i]
            assert rows[0].item() == pytest.approx(value[index == i].mean().item(), abs=1e-5)
            assert (rows == rows[0]).all()


def test_a_silent_source_is_not_remembered_and_is_again_when_it_speaks() -> None:
    memory, index = SampleMemory(3), torch.tensor([0, 2])
    yes, no = torch.tensor([True, True]), torch.tensor(False)
    memory.update(index, torch.tensor([1.0, 2.0]), yes, no)
    memory.update(index, torch.tensor([5.0, 5.0]), ~yes, ~no)
    assert memory.values.isnan().all() and memory.read(index).isnan().all()
    memory.update(index[:1], torch.tensor([7.0]), yes[:1], no)
    assert memory.values.tolist() == pytest.approx([7.0, math.nan, 2.0], nan_ok=True)
    again = SampleMemory(3)
    memory.silent.fill_(True)
    again.load_state_dict(memory.state_dict())
    assert again.values.isnan().all()
