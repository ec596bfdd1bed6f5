"""What is remembered of each sample, against a dictionary, and how it is read."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from online_debias.engine import Batch, SampleMemory
from online_debias.functional.by_index import mean_by_index
from online_debias.memory.samples import MOMENTUM, Samples
from online_debias.memory.shortcut import Shortcut
from tests.conftest import keep

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


# What a run knows of its samples.

N, CLASSES = 12, 4
NAN = math.nan


def made(n: int = N) -> Samples:
    return Samples(n, torch.device("cpu"), Shortcut(torch.device("cpu")))


def batch(index: list[int], mixed: Tensor | None = None, seed: int = 0) -> Batch:
    stream, n = torch.Generator().manual_seed(seed), len(index)
    return Batch(
        0, 0, torch.tensor(index), torch.zeros(n, 1), torch.tensor(index) % CLASSES, torch.ones(n),
        torch.zeros(n, dtype=torch.bool) if mixed is None else mixed,
        torch.randn(n, CLASSES, generator=stream),
    )  # fmt: skip


def remember(samples: Samples, index: list[int], **signals: list[float] | list[int]) -> None:
    one = batch(index)
    for name, value in signals.items():
        one.publish(name, torch.tensor(value))
    keep(samples, one)


def test_samples_are_what_a_dictionary_would_hold() -> None:
    """Of scores a moving average, of labels, losses and classes the latest."""
    samples, stream = made(), torch.Generator().manual_seed(0)
    score: dict[int, float] = {}
    label: dict[int, float] = {}
    loss: dict[int, float] = {}
    drawn, targets = [0] * N, [0] * N
    for number in range(40):
        index = torch.randint(N - 2, (8,), generator=stream).tolist()  # two are never seen
        one = batch(index, torch.rand(8, generator=stream) < 0.3, number)
        known = torch.rand(8, generator=stream) < 0.7
        value, seen = torch.rand(8, generator=stream), torch.randint(4, (8,), generator=stream)
        one.publish("conflict", value, known)
        one.publish("bias_label", seen, known)
        one.publish("bias_logits", torch.rand(8, 3, generator=stream))
        keep(samples, one)
        assert one.logits is not None
        found: dict[int, list[float]] = {}
        for row, i in enumerate(index):
            drawn[i], targets[i] = drawn[i] + 1, i % CLASSES
            if not one.mixed[row]:
                loss[i] = float(-one.logits[row].log_softmax(0)[i % CLASSES])
                if known[row]:
                    label[i] = float(seen[row])
                    found.setdefault(i, []).append(float(value[row]))
        for i, values in found.items():
            mean = sum(values) / len(values)
            score[i] = MOMENTUM * score[i] + (1 - MOMENTUM) * mean if i in score else mean
        for name, expected in (("conflict", score), ("bias_label", label)):
            remembered = [expected.get(i, NAN) for i in range(N)]
            assert samples.values(name).tolist() == pytest.approx(remembered, abs=1e-5, nan_ok=True)
            rows = torch.tensor([3, 11, 3, 0])
            assert samples.read(name, rows).tolist() == pytest.approx(
                [remembered[i] for i in rows.tolist()], abs=1e-5, nan_ok=True
            )
        assert samples.losses.tolist() == pytest.approx(
            [loss.get(i, NAN) for i in range(N)], abs=1e-5, nan_ok=True
        )
        assert samples.drawn.tolist() == drawn and samples.targets.tolist() == targets
    assert "conflict" in samples and "bias_logits" not in samples  # not one number a row
    assert 0 < len(score) < N


def test_of_a_signal_that_nobody_publishes_nothing_is_known() -> None:
    samples = made(3)
    rows = torch.tensor([2, 2])
    for unless in (None, "noise"):
        assert samples.values("conflict", unless).isnan().tolist() == [True] * 3
        assert samples.read("conflict", rows, unless).isnan().tolist() == [True] * 2
    for name in ("conflict", None):
        assert samples.flagged(name).tolist() == [False] * 3
        assert samples.flagged(name, rows).tolist() == [False] * 2
    remember(samples, [1], conflict=[0.75])
    assert samples.values("conflict", "noise").tolist() == pytest.approx(
        [NAN, 0.75, NAN], nan_ok=True
    )


def test_what_another_score_flags_counts_as_aligned() -> None:
    samples, rows = made(6), torch.tensor([5, 1, 1, 0])
    signals = {"conflict": [0.9] * 5, "bias_label": [2, 3, 0, 3, 3], "noise": [0.4, 0.6, 0, 1, 1]}
    remember(samples, [0, 1, 2, 3, 4], **signals)  # type: ignore[arg-type]
    remember(samples, [5], noise=[1.0])  # flagged, but of its conflict nothing is known
    for threshold, flags in ((None, [1, 3, 4, 5]), (0.3, [0, 1, 3, 4, 5]), (math.inf, [])):
        if threshold is not None:
            samples.thresholds["noise"] = torch.tensor(threshold)
        flagged = [i in flags for i in range(6)]
        assert samples.flagged("noise").tolist() == flagged
        assert samples.flagged("noise", rows).tolist() == [flagged[i] for i in rows.tolist()]
        score = [0.0 if flagged[i] else 0.9 for i in range(5)] + [NAN]
        label = [i % CLASSES if flagged[i] else signals["bias_label"][i] for i in range(5)] + [NAN]
        for name, expected in (("conflict", score), ("bias_label", label)):
            assert samples.values(name, unless="noise").tolist() == pytest.approx(
                expected, nan_ok=True
            )
            assert samples.read(name, rows, unless="noise").tolist() == pytest.approx(
                [expected[i] for i in rows.tolist()], nan_ok=True
            )
        assert samples.values("conflict")[:5].eq(0.9).all()


def test_while_no_shortcut_is_seen_nothing_is_known_and_nothing_is_forgotten() -> None:
    verdict = Shortcut(torch.device("cpu"))
    samples, rows = Samples(3, torch.device("cpu"), verdict), torch.tensor([0, 2])
    verdict.seek(["conflict", "bias_label"])
    verdict.extend(["noise"], made_of=["bias_label"])
    verdict.extend(["other"], made_of=["hard"])
    signals = {"conflict": [0.9, 0.8], "bias_label": [1, 1], "noise": [1.0, 1.0]}
    remember(samples, [0, 2], **signals, hard=[0.7, 0.7], other=[0.7, 0.7])  # type: ignore[arg-type]
    for seen in (False, True, False):
        verdict.see(torch.tensor(seen))
        for name, value in signals.items():
            expected = value if seen else [NAN, NAN]
            assert samples.values(name)[[0, 2]].tolist() == pytest.approx(expected, nan_ok=True)
            assert samples.read(name, rows).tolist() == pytest.approx(expected, nan_ok=True)
        assert samples.flagged("noise").tolist() == [seen, False, seen]
        assert samples.read("conflict", rows, "noise").isnan().all() != seen
        for name in ("hard", "other"):
            assert samples.read(name, rows).tolist() == pytest.approx([0.7, 0.7])
        assert samples.losses[rows].isfinite().all() and samples.drawn.tolist() == [1, 0, 1]


def test_samples_are_saved_and_taken_back() -> None:
    first, second = made(), made()
    remember(second, [4], forgotten=[0.5])
    remember(
        first, [0, 1, 1], conflict=[0.9, 0.1, 0.2], bias_label=[1, 2, 3], noise=[0.1, 0.7, 0.7]
    )
    first.thresholds["noise"] = torch.tensor(0.6)
    second.load_state_dict(first.state_dict())
    assert "forgotten" not in second
    for one in (first, second):  # a score goes on as a score, a label as a label
        remember(one, [1, 5], conflict=[1.0, 0.5], bias_label=[0, 1])
    for name in ("conflict", "bias_label", "noise"):
        for unless in (None, "noise"):
            torch.testing.assert_close(
                second.values(name, unless), first.values(name, unless), rtol=0, atol=0,
                equal_nan=True,
            )  # fmt: skip
    assert second.read("conflict", torch.tensor([1])).tolist() == pytest.approx([0.405])
    assert torch.equal(second.flagged("noise"), first.flagged("noise"))
    assert torch.equal(second.drawn, first.drawn) and torch.equal(second.targets, first.targets)
    torch.testing.assert_close(second.losses, first.losses, rtol=0, atol=0, equal_nan=True)


def test_samples_of_other_data_are_refused() -> None:
    with pytest.raises(
        ValueError, match="of 12 training samples, the training set has 5; resume w"
    ):
        made(5).load_state_dict(made().state_dict())


def test_two_who_look_for_a_shortcut_are_refused_and_a_verdict_is_taken_back() -> None:
    first, second = (Shortcut(torch.device("cpu")) for _ in range(2))
    assert bool(first.seen) and not first.sought  # where nobody looks, every score counts
    first.seek(["conflict"])
    assert first.sought and not bool(first.seen)
    with pytest.raises(ValueError, match="Two callbacks look for a shortcut; leave one of them"):
        first.seek(["other"])
    first.see(torch.tensor(True))
    first.rest(True)
    first.describe({"shortcut": True, "shortcut_evidence": 0.5})
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict() and second.signals == {"conflict"}
