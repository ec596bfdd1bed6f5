"""GroupDRO online: shares, row weights and balanced draws, against loops over groups."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from online_debias.callbacks.sampling.group_weights import GroupWeights
from online_debias.engine import Batch, Callback, Engine, Run
from online_debias.functional.weights.group_dro import (
    balanced_rates,
    exponentiated_update,
    group_means,
    group_sizes,
    row_factors,
)

N, B, CLASSES, VALUES = 96, 32, 2, 3
GROUPS = CLASSES * VALUES


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scene() -> tuple[Tensor, Tensor, Tensor]:
    """Losses `[B]`, groups that lack the last one, and which rows count; one group has none."""
    losses = torch.rand(B, generator=stream(0), dtype=torch.float64)
    group = torch.randint(GROUPS - 1, (B,), generator=stream(1))
    return losses, group, (torch.rand(B, generator=stream(2)) < 0.6) & (group != 1)


# The maths.


def means_loops(losses: Tensor, group: Tensor, keep: Tensor) -> list[float]:
    means = []
    for g in range(GROUPS):
        own = [float(losses[i]) for i in range(len(losses)) if group[i] == g and keep[i]]
        means.append(sum(own) / len(own) if own else 0.0)
    return means


def test_group_means_are_those_of_rows_that_count() -> None:
    losses, group, keep = scene()
    expected = means_loops(losses, group, keep)
    assert expected[1] == expected[GROUPS - 1] == 0 and min(expected[2:5]) > 0
    assert group_means(losses, group, keep, GROUPS).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("adjustment", [0.0, 2.0])
def test_the_update_is_the_formula(adjustment: float) -> None:
    losses = torch.rand(GROUPS, generator=stream(0), dtype=torch.float64) * 3
    share = torch.rand(GROUPS, generator=stream(1), dtype=torch.float64)
    share = share / share.sum()
    sizes = torch.tensor([100.0, 4.0, 1.0, 0.0, 9.0, 25.0], dtype=torch.float64)
    raised = []
    for q, loss, n in zip(share.tolist(), losses.tolist(), sizes.tolist(), strict=True):
        margin = adjustment / math.sqrt(n) if n else 0.0
        raised.append(q * math.exp(0.3 * (loss + margin)))
    expected = [q / sum(raised) for q in raised]
    actual = exponentiated_update(share.log(), losses, sizes, 0.3, adjustment).exp()
    assert actual.tolist() == pytest.approx(expected)


def test_a_group_that_fared_well_for_long_comes_back() -> None:
    log_share, sizes = torch.tensor([0.5, 0.5]).log(), torch.ones(2)
    for losses in (torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])):
        for _ in range(5000):
            log_share = exponentiated_update(log_share, losses, sizes, 0.1, 0.0)
    assert log_share.exp().tolist() == pytest.approx([0.5, 0.5], rel=0.05)


def test_row_factors_make_the_mean_loss_the_weighted_sum_of_group_losses() -> None:
    losses, group, _ = scene()
    share = torch.rand(GROUPS, generator=stream(3), dtype=torch.float64)
    expected = means_loops(losses, group, torch.ones(B, dtype=torch.bool))
    total = sum(q * loss for q, loss in zip(share.tolist(), expected, strict=True))
    assert (row_factors(share, group) * losses).mean().item() == pytest.approx(total)


def test_balanced_rates_draw_groups_evenly() -> None:
    group = torch.tensor([0.0] * 60 + [2.0] * 12 + [5.0] * 8 + [math.nan] * 20)
    sizes = group_sizes(group, GROUPS)
    assert sizes.tolist() == [60, 0, 12, 0, 0, 8]
    rates = balanced_rates(group, sizes, limit=50.0)
    for g in (0, 2, 5):
        assert rates[group == g].sum().item() == pytest.approx(80 / 3)
    assert rates[80:].tolist() == pytest.approx([1.0] * 20)  # never seen: as others on average


def test_balanced_rates_are_bounded() -> None:
    group = torch.tensor([0.0] * 998 + [1.0, math.nan])
    rates = balanced_rates(group, group_sizes(group, 2), limit=20.0)
    assert rates[998].item() == 20  # 499.5 without
    assert rates[0].item() == pytest.approx(999 / 2 / 998)
    assert rates[999].item() == pytest.approx(rates[:999].mean().item())


def test_balanced_rates_of_nobody_are_even() -> None:
    group = torch.full((5,), math.nan)
    assert balanced_rates(group, group_sizes(group, 3), 50.0).tolist() == [1.0] * 5


# In a run.


class Groups(Callback):
    """Publishes chosen bias values, and marks chosen rows as mixed."""

    provides = ("bias_label",)

    def __init__(self, bias: Tensor, mixed: Tensor) -> None:
        super().__init__()
        self.chosen, self.mixed = bias, mixed

    def setup(self, run: Run) -> None:
        run.n_values["bias_label"] = VALUES

    def on_batch(self, batch: Batch) -> None:
        batch.mixed = self.mixed[batch.index]

    def on_features(self, batch: Batch) -> None:
        batch.publish("bias_label", self.chosen[batch.index])


TARGETS = torch.arange(N) % CLASSES
BIAS = torch.where(torch.arange(N) % 8 < 6, TARGETS, torch.randint(3, (N,), generator=stream(4)))
INPUTS = torch.randn(N, 4, generator=stream(5))
PLAIN = torch.zeros(N, dtype=torch.bool)


def build(
    callback: GroupWeights, mixed: Tensor = PLAIN, bias: Tensor = BIAS
) -> tuple[Engine, nn.Module]:
    torch.manual_seed(0)
    net = nn.Linear(4, CLASSES)
    callbacks = [callback, Groups(bias, mixed)]
    return Engine(net, callbacks, n_samples=N, n_classes=CLASSES, normalize="none"), net


def step(engine: Engine, net: nn.Module, rows: Tensor) -> tuple[Batch, Tensor]:
    batch = engine.start_step(rows, INPUTS[rows], TARGETS[rows])
    loss = engine.loss(batch, net(batch.inputs))
    engine.end_step(batch)
    return batch, loss


def test_the_loss_is_the_sum_over_groups_by_their_shares() -> None:
    engine, net = build(GroupWeights(step_size=0.5))
    share = [1 / GROUPS] * GROUPS
    for rows in torch.arange(N).split(B):
        batch, loss = step(engine, net, rows)
        assert batch.losses is not None
        group = TARGETS[rows] * VALUES + BIAS[rows]
        losses = means_loops(batch.losses.detach(), group, torch.ones(B, dtype=torch.bool))
        raised = [q * math.exp(0.5 * x) for q, x in zip(share, losses, strict=True)]
        share = [q / sum(raised) for q in raised]
        expected = sum(q * x for q, x in zip(share, losses, strict=True))
        assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert max(share) > 1.2 / GROUPS


def test_mixed_rows_are_weighed_like_their_group_and_change_no_share() -> None:
    mixed = torch.arange(N) % 3 == 0
    engine, net = build(callback := GroupWeights(step_size=0.5), mixed)
    rows = torch.arange(B)
    batch, _ = step(engine, net, rows)
    group, keep = TARGETS[rows] * VALUES + BIAS[rows], ~mixed[rows]
    assert batch.losses is not None and batch.weights is not None
    losses = torch.tensor(means_loops(batch.losses.detach(), group, keep))
    share = (0.5 * losses).softmax(0)
    torch.testing.assert_close(callback.log_share.exp(), share)
    for g in group.unique().tolist():
        own = group == g
        torch.testing.assert_close(
            batch.weights[own], (B * share[g] / own.sum()).expand(int(own.sum()))
        )
    known = ~engine.run.samples.values("bias_label").isnan()
    assert known[:B].tolist() == keep.tolist() and not known[B:].any()


def test_the_next_round_draws_groups_evenly() -> None:
    engine, net = build(GroupWeights())
    for rows in torch.arange(N).split(B):
        step(engine, net, rows)
    assert not engine.run.tables
    engine.end_epoch()
    drawn = engine.sampling.indices()
    group = TARGETS * VALUES + BIAS
    present = group.unique()
    assert len(present) == 6 and group.bincount().max() > 5 * group.bincount().min()
    for g in present.tolist():
        assert engine.run.tables["group_weights"][group == g].sum().item() == pytest.approx(N / 6)
        assert (group[drawn] == g).sum().item() == pytest.approx(N / 6, abs=4)


def test_groups_need_not_be_balanced() -> None:
    engine, net = build(GroupWeights(balance=False))
    step(engine, net, torch.arange(B))
    engine.end_epoch()
    assert not engine.run.tables


def test_the_adjustment_counts_samples_from_the_second_epoch_on() -> None:
    with_it, without = GroupWeights(adjustment=3.0, balance=False), GroupWeights(balance=False)
    for callback in (with_it, without):
        engine, net = build(callback)
        for rows in torch.arange(N).split(B):
            step(engine, net, rows)
    torch.testing.assert_close(with_it.log_share, without.log_share)
    with torch.no_grad():
        engine, net = build(with_it)
        step(engine, net, torch.arange(N))
        before = with_it.log_share.clone()
        engine.end_epoch()
        batch, _ = step(engine, net, torch.arange(N))
    group = TARGETS * VALUES + BIAS
    sizes = [int((group == g).sum()) for g in range(GROUPS)]
    assert with_it.sizes.tolist() == sizes
    assert batch.losses is not None
    losses = means_loops(batch.losses, group, ~PLAIN)
    moved = [
        0.01 * (x + (3 / math.sqrt(n) if n else 0)) for x, n in zip(losses, sizes, strict=True)
    ]
    torch.testing.assert_close(with_it.log_share, (before + torch.tensor(moved)).log_softmax(0))


def test_values_out_of_range_count_as_the_nearest() -> None:
    outside = torch.where(BIAS == 0, -4, torch.where(BIAS == VALUES - 1, 9, BIAS))
    one, other = GroupWeights(step_size=0.5), GroupWeights(step_size=0.5)
    for callback, bias in ((one, outside), (other, BIAS)):
        step(*build(callback, bias=bias), torch.arange(B))
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0, equal_nan=True)


def test_it_serves_the_group_that_fares_worst() -> None:
    """One input tells the class in all groups, another, larger, in all but the rare ones."""

    def worst(*callbacks: Callback) -> float:
        torch.manual_seed(0)
        n = 600
        targets = torch.arange(n) % 2
        bias = torch.where(torch.arange(n) % 20 < 18, targets, 1 - targets)
        noise = torch.randn(n, 2, generator=stream(7))
        signs = torch.stack([targets, bias], 1) * 2 - 1
        inputs = signs * torch.tensor([1.0, 3.0]) + noise
        net = nn.Linear(2, 2)
        if callbacks:
            callbacks = (*callbacks, Groups(bias, torch.zeros(n, dtype=torch.bool)))
        engine = Engine(net, callbacks, n_samples=n, n_classes=2)
        own = torch.optim.Adam(net.parameters(), lr=0.05)
        for _ in range(10):
            for rows in engine.sampling.indices().split(60):
                batch = engine.start_step(rows, inputs[rows], targets[rows])
                loss = engine.loss(batch, net(batch.inputs))
                own.zero_grad()
                loss.backward()
                own.step()
                engine.end_step(batch)
            engine.end_epoch()
        right = (net(inputs).argmax(1) == targets).float()
        return right[bias != targets].mean().item()

    plain = worst()
    assert worst(GroupWeights(step_size=0.1)) > plain + 0.1
    assert worst(GroupWeights(step_size=0.1, balance=False)) > plain + 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GroupWeights(step_size=0.0), "step_size is 0.0, expected a finite number above 0"),
        (lambda: GroupWeights(adjustment=-1.0), "adjustment is -1.0, expected a finite number >="),
        (lambda: GroupWeights(limit=1.0), "GroupWeights: limit is 1.0, expected a number above 1"),
    ],
)
def test_arguments_out_of_range_are_refused(make: Callable[[], Callback], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
