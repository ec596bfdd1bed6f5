"""What callbacks contribute to a step, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from online_debias.engine import Batch

torch.set_num_threads(1)


@pytest.fixture
def batch() -> Batch:
    return Batch(
        step=0,
        epoch=0,
        index=torch.arange(4),
        inputs=torch.zeros(4, 3, 8, 8),
        targets=torch.zeros(4, dtype=torch.long),
        rate=torch.ones(4),
        mixed=torch.zeros(4, dtype=torch.bool),
    )


def leaf(*shape: int) -> Tensor:
    return torch.ones(*shape, requires_grad=True)


def test_a_batch_is_as_long_as_its_rows(batch: Batch) -> None:
    assert len(batch) == 4


def test_batches_do_not_share_their_contributions(batch: Batch) -> None:
    other = Batch(1, 0, batch.index, batch.inputs, batch.targets, batch.rate, batch.mixed)
    batch.publish("conflict", torch.zeros(4))
    assert other.signals == {}


def test_signals_and_weight_factors_are_detached_and_loss_terms_are_not(batch: Batch) -> None:
    batch.publish("conflict", leaf(4) * 2)
    batch.publish("bias_logits", leaf(4, 10) * 2)
    batch.reweight("reweight", leaf(4) * 3)
    batch.add_loss("end", leaf(4).sum())
    assert batch.signals["conflict"].tolist() == [2.0] * 4
    assert batch.signals["bias_logits"].shape == (4, 10)
    assert batch.factors["reweight"].tolist() == [3.0] * 4
    contributions = (*batch.signals.values(), *batch.factors.values())
    assert not any(value.requires_grad for value in contributions)
    assert batch.terms["end"].requires_grad


def test_a_signal_has_one_writer(batch: Batch) -> None:
    batch.publish("conflict", torch.zeros(4))
    with pytest.raises(ValueError, match="signal 'conflict' was given twice"):
        batch.publish("conflict", torch.ones(4))
    assert batch.signals["conflict"].tolist() == [0.0] * 4


def test_a_callback_reweights_once(batch: Batch) -> None:
    batch.reweight("reweight", torch.ones(4))
    with pytest.raises(ValueError, match="weight factor 'reweight' was given twice"):
        batch.reweight("reweight", torch.ones(4))


def test_a_signal_and_a_factor_may_share_a_name(batch: Batch) -> None:
    batch.publish("conflict", torch.zeros(4))
    batch.reweight("conflict", torch.ones(4))
    batch.add_loss("conflict", torch.ones(()))
    assert set(batch.signals) == set(batch.factors) == set(batch.terms) == {"conflict"}


def test_a_loss_term_is_added_once(batch: Batch) -> None:
    batch.add_loss("end", torch.ones(()))
    with pytest.raises(ValueError, match="Loss term 'end' was added twice"):
        batch.add_loss("end", torch.ones(()))


@pytest.mark.parametrize("shape", [(), (3,), (1, 4), (0,)])
def test_a_signal_of_other_rows_is_refused_with_its_shape(
    batch: Batch, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError) as error:
        batch.publish("conflict", torch.ones(shape))
    assert str(error.value) == (
        f"The signal 'conflict' has shape {shape}, expected one value for each of the 4 rows."
    )


@pytest.mark.parametrize("shape", [(), (3,), (1, 4), (4, 1), (4, 2)])
def test_a_weight_factor_that_is_not_one_number_a_row_is_refused(
    batch: Batch, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="weight factor 'reweight' has shape"):
        batch.reweight("reweight", torch.ones(shape))
    assert batch.factors == {}


@pytest.mark.parametrize("shape", [(4,), (1,), (0,)])
def test_a_loss_term_that_is_not_a_scalar_is_refused(batch: Batch, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="Loss term 'end' has shape .* expected a scalar"):
        batch.add_loss("end", torch.ones(shape))
    assert batch.terms == {}


def test_appended_rows_keep_what_they_vary_and_count_as_mixed(batch: Batch) -> None:
    batch.targets, batch.rate = torch.tensor([3, 1, 4, 1]), torch.tensor([1.0, 2.0, 3.0, 4.0])
    batch.originals = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 8, 8)
    batch.append(torch.tensor([2, 0]), torch.ones(2, 3, 8, 8))
    assert batch.index.tolist() == [0, 1, 2, 3, 2, 0] and batch.targets.tolist()[4:] == [4, 3]
    assert batch.rate.tolist()[4:] == [3.0, 1.0]
    assert batch.mixed.tolist() == [False] * 4 + [True] * 2
    assert batch.inputs[4:].eq(1).all() and not batch.inputs[:4].any()
    assert batch.originals[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 2, 0]


def test_logits_are_shifted_with_the_graph_and_once_a_name(batch: Batch) -> None:
    with pytest.raises(ValueError, match="'rubi' has shape .*expected None.*from on_features on"):
        batch.shift_logits("rubi", torch.zeros(4, 2))
    batch.logits = torch.zeros(4, 2)
    batch.shift_logits("rubi", leaf(4, 2))
    assert batch.shifts["rubi"].requires_grad
    assert not batch.detached().shifts["rubi"].requires_grad
    with pytest.raises(ValueError, match="shifted twice by 'rubi'"):
        batch.shift_logits("rubi", torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"'end' has shape \(4,\), expected \(4, 2\)"):
        batch.shift_logits("end", torch.zeros(4))


def test_what_is_retracted_counts_as_aligned_and_adds_up_in_any_order(batch: Batch) -> None:
    batch.targets = torch.tensor([0, 1, 2, 3])
    batch.publish("conflict", torch.tensor([0.9, 0.8, 0.7, 0.6]))
    batch.publish("bias_group", torch.tensor([3, 3, 3, 2]))
    for rows in ([True, False, False, False], [True, True, False, False]):
        for signal in ("conflict", "bias_group"):
            batch.retract(signal, torch.tensor(rows))
    torch.testing.assert_close(batch.signals["conflict"], torch.tensor([0.0, 0.0, 0.7, 0.6]))
    assert batch.signals["bias_group"].tolist() == [0, 1, 3, 2]
    torch.testing.assert_close(batch.published["conflict"], torch.tensor([0.9, 0.8, 0.7, 0.6]))
    assert batch.published["bias_group"].tolist() == [3, 3, 3, 2]


def test_only_what_was_published_can_be_retracted_row_by_row(batch: Batch) -> None:
    with pytest.raises(ValueError, match="no signal 'conflict' to retract from; published are non"):
        batch.retract("conflict", torch.zeros(4, dtype=torch.bool))
    batch.publish("conflict", torch.zeros(4))
    for rows in (torch.zeros(4), torch.zeros(3, dtype=torch.bool)):
        with pytest.raises(ValueError, match=r"expected \[4\] torch.bool"):
            batch.retract("conflict", rows)


def test_what_is_withheld_is_retracted_and_not_to_be_remembered(batch: Batch) -> None:
    batch.mixed = torch.tensor([True, False, False, False])
    batch.publish("conflict", torch.full((4,), 0.9))
    batch.publish("bias_group", torch.ones(4, dtype=torch.long))
    assert batch.known("conflict").tolist() == [False, True, True, True]
    batch.withhold("conflict", torch.tensor([False, True, False, False]))
    batch.withhold("conflict", torch.tensor([False, False, True, False]))
    assert batch.signals["conflict"].tolist() == pytest.approx([0.9, 0.0, 0.0, 0.9])
    assert batch.known("conflict").tolist() == [False, False, False, True]
    assert batch.known("bias_group").tolist() == [False, True, True, True]
    assert batch.detached().known("conflict").tolist() == batch.known("conflict").tolist()


def test_a_hushed_signal_is_withheld_of_all_until_somebody_speaks_for_it(batch: Batch) -> None:
    batch.publish("conflict", torch.full((4,), 0.9))
    batch.hush("conflict")
    assert batch.hushed == batch.detached().hushed == {"conflict"}
    assert bool(batch.silent("conflict")) and not batch.signals["conflict"].any()
    batch.replace("conflict", torch.full((4,), 0.8), torch.tensor([True, False, True, True]))
    assert not batch.hushed and not bool(batch.silent("conflict"))


def test_who_replaces_what_is_withheld_speaks_for_it(batch: Batch) -> None:
    batch.targets = torch.tensor([0, 1, 2, 3])
    batch.publish("conflict", torch.full((4,), 0.9))
    batch.publish("bias_group", torch.tensor([3, 3, 3, 2]))
    most = torch.tensor([True, True, True, False])
    for signal in ("conflict", "bias_group"):
        batch.withhold(signal, most)
    rows = torch.tensor([True, True, False, False])
    batch.replace("conflict", torch.tensor([0.1, 0.2, 0.3, 0.4]), rows)
    batch.replace("bias_group", torch.tensor([2, 2, 2, 2]), rows)
    for signals, untold in ((batch.signals, (0.0, 2)), (batch.published, (0.9, 3))):
        assert signals["conflict"].tolist() == pytest.approx([0.1, 0.2, untold[0], 0.9])
        assert signals["bias_group"].tolist() == [2, 2, untold[1], 2]
    assert batch.known("conflict").tolist() == [True, True, False, True]
    batch.retract("conflict", torch.tensor([False, True, False, False]))
    assert batch.signals["conflict"].tolist() == pytest.approx([0.1, 0.0, 0.0, 0.9])


def test_only_what_was_published_can_be_replaced_by_a_value_a_row(batch: Batch) -> None:
    every = torch.ones(4, dtype=torch.bool)
    with pytest.raises(ValueError, match="no signal 'conflict'"):
        batch.replace("conflict", torch.zeros(4), every)
    batch.publish("conflict", torch.zeros(4))
    with pytest.raises(ValueError, match=r"replacement of the signal 'conflict' has shape \(3,\)"):
        batch.replace("conflict", torch.zeros(3), every)
    with pytest.raises(ValueError, match=r"expected \[4\] torch.bool"):
        batch.replace("conflict", torch.zeros(4), torch.ones(4))
