"""What is drawn next: rates, rounds and the tables behind them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from online_debias.engine import Indexed, RoundSampler, Run, weights
from online_debias.engine.sampling import systematic
from online_debias.runtime import seeds

torch.set_num_threads(1)
N = 23


def make_run(rank: int = 0, world_size: int = 1, n: int = N, seed: int = 0) -> Run:
    run = Run(n, 2, torch.device("cpu"), seed, record=lambda name, value: None)
    run.rank, run.world_size = rank, world_size
    return run


def table(epoch: int, n: int = N) -> Tensor:
    """Sampling factors that change from epoch to epoch; sample 0 is never drawn."""
    factor = torch.rand(n, generator=torch.Generator().manual_seed(epoch)) * 4
    factor[0] = 0
    return factor


def random_rate(seed: int, n: int = 50) -> Tensor:
    return weights.rates({"a": torch.rand(n, generator=torch.Generator().manual_seed(seed)) ** 3})


# The data set.


def test_indexed_samples_carry_their_position() -> None:
    data = Indexed([("a", 0), ("b", 1), ("c", 0)])
    assert len(data) == 3
    assert [data[i] for i in (2, 0)] == [(2, "c", 0), (0, "a", 0)]


# One draw.


def test_every_sample_is_drawn_its_rate_rounded_down_or_up() -> None:
    for seed in range(200):
        rate = random_rate(seed % 20)
        counts = systematic(rate, torch.Generator().manual_seed(seed)).bincount(minlength=50)
        assert counts.sum() == 50
        for count, expected in zip(counts.tolist(), rate.tolist(), strict=True):
            assert count in (math.floor(expected), math.ceil(expected))


def test_samples_are_drawn_at_their_rate_on_average() -> None:
    rate, draws = random_rate(0), 3000
    counts = torch.zeros(50)
    for seed in range(draws):
        counts += systematic(rate, torch.Generator().manual_seed(seed)).bincount(minlength=50)
    torch.testing.assert_close(counts.double() / draws, rate, atol=0.05, rtol=0)


def test_equal_rates_draw_a_permutation() -> None:
    for rate in (torch.ones(40).double(), weights.rates({"a": torch.full((40,), 0.1)})):
        for seed in range(50):
            drawn = systematic(rate, torch.Generator().manual_seed(seed)).tolist()
            assert sorted(drawn) == list(range(40))
            assert drawn != list(range(40))


def test_a_sample_of_rate_zero_is_never_drawn() -> None:
    rate = weights.rates({"a": torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0, 0.0])})
    for seed in range(100):
        drawn = systematic(rate, torch.Generator().manual_seed(seed)).tolist()
        assert sorted(drawn) == [1, 1, 3, 3, 4, 4]


def test_draws_are_in_random_order() -> None:
    rate = weights.rates({"a": torch.tensor([2.0, 1.0, 0.0, 1.0, 2.0, 0.0])})
    places = [
        systematic(rate, torch.Generator().manual_seed(seed)).tolist().index(1)
        for seed in range(600)
    ]
    counts = [places.count(place) for place in range(6)]
    chi_square = sum((n - 100) ** 2 / 100 for n in counts)
    assert chi_square < 20.5  # p = .001 at five degrees of freedom


# RoundSampler.


def stream(rounds: RoundSampler, n_rounds: int, num_workers: int) -> list[list[int]]:
    """The indices of each round, from a loader; the tables change while each round goes on."""
    data = Indexed([(torch.tensor([float(i)]), i % 2) for i in range(N)])
    loader = DataLoader(data, batch_size=4, sampler=rounds, num_workers=num_workers)
    seen = []
    for number in range(n_rounds):
        this_round = []
        for step, (index, inputs, _) in enumerate(loader):
            assert inputs.flatten().tolist() == index.tolist()
            this_round += index.tolist()
            rounds.consumed += len(index)
            rounds._run.resample("a", None, table(10 * number + step))
        rounds.next_round()
        seen.append(this_round)
    return seen


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a single core
def test_the_stream_is_the_same_for_any_number_of_workers() -> None:
    alone = stream(RoundSampler(make_run()), 3, num_workers=0)
    assert stream(RoundSampler(make_run()), 3, num_workers=2) == alone
    assert [len(indices) for indices in alone] == [N] * 3
    assert sorted(alone[0]) == list(range(N))
    assert sorted(alone[1]) != sorted(alone[2]) and 0 not in alone[1] + alone[2]


def test_a_round_without_tables_is_a_permutation_and_differs_from_the_next() -> None:
    rounds = RoundSampler(make_run())
    first = list(rounds)
    rounds.next_round()
    second = list(rounds)
    assert sorted(first) == sorted(second) == list(range(N))
    assert first != second


def test_the_seed_decides_the_stream() -> None:
    assert list(RoundSampler(make_run(seed=3))) == list(RoundSampler(make_run(seed=3)))
    assert list(RoundSampler(make_run(seed=3))) != list(RoundSampler(make_run(seed=4)))


def test_a_round_is_drawn_from_the_tables_as_they_stand_at_its_start() -> None:
    run = make_run()
    rounds = RoundSampler(run)
    run.resample("a", None, torch.ones(N))
    iterator = iter(rounds)
    run.resample("a", torch.arange(1, N), torch.zeros(N - 1))
    assert sorted(iterator) == list(range(N))
    rounds.next_round()
    assert list(rounds) == [0] * N


@pytest.mark.parametrize("consumed", [0, 1, 9, N])
def test_a_resumed_round_goes_on_though_its_tables_have_changed(consumed: int) -> None:
    run = make_run()
    run.resample("a", None, table(0))
    rounds = RoundSampler(run)
    whole = list(rounds)
    rounds.consumed = consumed
    if consumed:
        run.resample("a", None, table(1))
    state = rounds.state_dict()
    rounds.next_round()
    following = list(rounds)

    resumed = RoundSampler(make_run())
    resumed.load_state_dict(state)
    assert list(resumed) == whole[consumed:]
    index = torch.arange(N)
    torch.testing.assert_close(
        resumed.rate_of(index), weights.rates({"a": table(0)}).float(), rtol=0, atol=0
    )
    resumed.next_round()
    assert list(resumed) == following


def test_the_state_keeps_the_seed_of_the_run_that_wrote_it() -> None:
    rounds = RoundSampler(make_run(seed=5))
    rounds.next_round()
    expected, resumed = list(rounds), RoundSampler(make_run(seed=6))
    resumed.load_state_dict(rounds.state_dict())
    assert list(resumed) == expected


def test_a_resumed_run_shares_no_table_with_the_one_it_came_from() -> None:
    run, other = make_run(), make_run()
    run.resample("a", None, table(0))
    RoundSampler(other).load_state_dict(RoundSampler(run).state_dict())
    other.resample("a", None, torch.ones(N))
    assert torch.equal(run.tables["a"], table(0))


@pytest.mark.parametrize("n", [22, 23])
def test_ranks_interleave_to_the_stream_of_one_process(n: int) -> None:
    ranks = [RoundSampler(make_run(rank, 2, n)) for rank in range(2)]
    alone = RoundSampler(make_run(n=n))
    for number in range(3):
        expected, parts = list(alone), [list(rounds) for rounds in ranks]
        assert [len(rounds) for rounds in ranks] == [len(part) for part in parts]
        woven = [parts[i % 2][i // 2] for i in range(n - n % 2)]  # equally many each
        assert woven == expected[: n - n % 2]
        for rounds in (alone, *ranks):
            rounds._run.resample("a", None, table(number, n))
            rounds.next_round()


def test_a_rank_resumes_its_own_part() -> None:
    rounds = RoundSampler(make_run(rank=1, world_size=3))
    whole = list(rounds)
    rounds.consumed = 3 * 4  # by all ranks
    assert list(rounds) == whole[4:]
    assert len(rounds) == len(whole)


def test_rates_of_rows_are_those_the_round_was_drawn_from() -> None:
    run = make_run()
    rounds = RoundSampler(run)
    index = torch.tensor([3, 0, 3, 7])
    list(rounds)
    assert rounds.rate_of(index).tolist() == [1.0] * 4
    run.resample("a", None, table(0))
    run.resample("b", None, table(1))
    assert rounds.rate_of(index).tolist() == [1.0] * 4  # the round under way is not touched
    rounds.next_round()
    list(rounds)
    product = [a * b for a, b in zip(table(0).tolist(), table(1).tolist(), strict=True)]
    expected = [N * product[i] / sum(product) for i in index.tolist()]
    actual = rounds.rate_of(index)
    assert actual.dtype == torch.float32
    assert actual.tolist() == pytest.approx(expected, rel=1e-5)
    assert actual[1] == 0


def test_a_loader_that_draws_by_itself_is_refused_once_a_callback_resamples() -> None:
    run = make_run()
    rounds = RoundSampler(run)
    rounds.check_in_use()
    run.resample("resample", None, table(0))
    with pytest.raises(RuntimeError, match=r"Callback resample resamples.*engine\.sampler\(\)"):
        rounds.check_in_use()
    iter(rounds)
    rounds.check_in_use()


# What a run is asked for.


def test_samples_that_are_not_named_keep_their_factor() -> None:
    run = make_run(n=4)
    run.resample("a", torch.tensor([2, 0]), torch.tensor([5.0, 3.0]))
    assert run.tables["a"].tolist() == [3.0, 1.0, 5.0, 1.0]
    run.resample("a", torch.tensor([2]), torch.tensor([7], requires_grad=False))
    assert run.tables["a"].tolist() == [3.0, 1.0, 7.0, 1.0]


def test_proposers_have_tables_of_their_own() -> None:
    run = make_run(n=2)
    run.resample("a", None, torch.tensor([1.0, 2.0]))
    run.resample("b", torch.tensor([0]), torch.tensor([4.0]))
    tables = {name: factors.tolist() for name, factors in run.tables.items()}
    assert tables == {"a": [1.0, 2.0], "b": [4.0, 1.0]}


def test_factors_for_other_samples_than_named_are_refused() -> None:
    run = make_run(n=4)
    with pytest.raises(ValueError, match=r"'a' have shape \(3,\), expected \(4,\)"):
        run.resample("a", None, torch.ones(3))
    with pytest.raises(ValueError, match=r"'a' have shape \(2, 1\), expected \(2,\)"):
        run.resample("a", torch.tensor([0, 1]), torch.ones(2, 1))


def test_a_consumer_has_its_own_random_stream_in_every_step() -> None:
    run = make_run()
    draws = {}
    for step in (0, 1):
        run.step = step
        for name in ("mix", "trees"):
            draws[name, step] = torch.rand(4, generator=run.generator(name)).tolist()
    assert len({tuple(draw) for draw in draws.values()}) == 4
    again = make_run()
    again.step = 1
    assert torch.rand(4, generator=again.generator("mix")).tolist() == draws["mix", 1]


@pytest.mark.parametrize("drop_last", [True, False])
def test_a_round_that_was_never_closed_is_told(drop_last: bool) -> None:
    rounds = RoundSampler(make_run())
    loader = DataLoader(range(N), batch_size=4, sampler=rounds, drop_last=drop_last)  # type: ignore[arg-type]
    for rows in loader:
        rounds.consume(len(rows))
    with pytest.raises(RuntimeError, match=r"Round 0 was drawn .* call engine\.end_epoch\(\)"):
        list(loader)
    resumed = RoundSampler(make_run())
    resumed.load_state_dict(rounds.state_dict())
    assert len(list(resumed)) == N % 4 if drop_last else not list(resumed)
    rounds.next_round()
    assert len(list(loader)) == len(loader)


def test_a_seed_that_is_fixed_for_a_while_leaves_gpus_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(seed: int) -> None:
        raise AssertionError

    monkeypatch.setattr(torch.cuda, "manual_seed_all", never)
    before = torch.get_rng_state()
    with seeds.fixed(0, "weights"):
        first = torch.rand(2)
    assert torch.equal(torch.get_rng_state(), before)
    with seeds.fixed(0, "weights"):
        assert torch.equal(torch.rand(2), first)
