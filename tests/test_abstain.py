"""Acting only where there is a shortcut."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from online_debias.callbacks import Abstain, CrossBiasMix, EnD, Resample
from online_debias.engine import Batch, Run
from online_debias.functional.shortcut.agreement import agreement
from online_debias.training.trainer import Trainer
from tests.conftest import make_images, make_model, make_recipe

torch.set_num_threads(1)
CLASSES = 4


def made(**settings: float) -> Abstain:
    callback = Abstain(**settings)  # type: ignore[arg-type]
    records: dict[str, Tensor | float] = {}
    callback.run = Run(1000, CLASSES, torch.device("cpu"), 0, records.__setitem__)
    callback.setup(callback.run)
    callback.records = records  # type: ignore[assignment]
    return callback


def step(
    callback: Abstain,
    right: float,
    rows: int = 128,
    seed: int = 0,
    rate: Tensor | None = None,
    mixed: Tensor | None = None,
    sides: float = 1.0,
) -> Batch:
    """A batch of which the view tells a share of the rows right.

    In a share `sides` of the rows the model prefers what the view sees, else the label.
    """
    stream = torch.Generator().manual_seed(seed)
    targets = torch.randint(CLASSES, (rows,), generator=stream)
    wrong = (targets + torch.randint(1, CLASSES, (rows,), generator=stream)) % CLASSES
    group = torch.where(torch.rand(rows, generator=stream) < right, targets, wrong)
    batch = Batch(
        0, 0, torch.arange(rows), torch.zeros(rows, 1), targets,
        torch.ones(rows) if rate is None else rate,
        torch.zeros(rows, dtype=torch.bool) if mixed is None else mixed,
    )  # fmt: skip
    batch.publish("conflict", (group != targets).float())
    batch.publish("bias_group", group)
    chosen = torch.where(torch.rand(rows, generator=stream) < sides, group, targets)
    batch.logits = torch.nn.functional.one_hot(chosen, CLASSES).float()
    callback.on_features(batch)
    return batch


def withheld(batch: Batch) -> bool:
    silent = [
        not batch.signals["conflict"].any(),
        torch.equal(batch.signals["bias_group"], batch.targets),
    ]
    assert silent[0] == silent[1]
    return silent[0]


def slow_agreement(right: list[float], seen: list[float]) -> float:
    shares = [r / s for r, s in zip(right, seen, strict=True) if s > 0]
    chance = 1 / max(2, len(shares))
    return max(0.0, (sum(shares) / len(shares) - chance) / (1 - chance))


@pytest.mark.parametrize(
    ("right", "seen"),
    [
        ([9.0, 1.0, 5.0], [10.0, 2.0, 10.0]),
        ([9.0, 0.0, 5.0], [10.0, 0.0, 10.0]),
        ([5.0, 5.0], [10.0, 10.0]),
        ([1.0, 0.0], [10.0, 10.0]),
        ([10.0, 3.0], [10.0, 3.0]),
    ],
)
def test_agreement_equals_a_plain_computation(right: list[float], seen: list[float]) -> None:
    found = agreement(torch.tensor(right), torch.tensor(seen))
    expected = slow_agreement(right, seen)
    assert float(found) == pytest.approx(expected, abs=1e-6)
    both = agreement(torch.tensor([right, seen]), torch.tensor([seen, seen]))
    assert both.tolist() == pytest.approx([expected, slow_agreement(seen, seen)], abs=1e-6)


def test_nothing_seen_is_no_agreement() -> None:
    assert float(agreement(torch.zeros(3), torch.zeros(3))) == 0


@pytest.mark.parametrize(
    ("right", "sides", "found"),
    [(0.95, 0.0, True), (0.7, 1.0, True), (0.7, 0.9, True), (0.7, 0.5, False), (0.4, 1.0, False)],
)
def test_a_view_that_is_not_sure_is_a_shortcut_only_if_the_model_follows_it(
    right: float, sides: float, found: bool
) -> None:
    callback = made(hint=0, window=1024)
    last = [withheld(step(callback, right, seed=seed, sides=sides)) for seed in range(20)]
    assert last[5] is (right < 0.5)  # at first the evidence alone decides
    assert last[-1] is not found
    findings = callback.findings()
    assert findings["shortcut"] is found
    assert findings.get("shortcut_followed") == (
        None if right < 0.5 else pytest.approx(sides, abs=0.1)
    )
    assert callback.records["shortcut/followed"] == callback.followed  # type: ignore[index]


def test_a_model_need_not_be_followed_if_nobody_asks() -> None:
    callback = made(follow=0.0, window=1024)
    assert not [withheld(step(callback, 0.7, seed=s, sides=0.0)) for s in range(16)][-1]


def test_what_was_released_stays_so_when_the_model_is_debiased_but_not_without_evidence() -> None:
    callback = made(window=1024, early=1024, hint=0)
    assert [withheld(step(callback, 0.7, seed=s)) for s in range(12)][-1] is False
    assert [withheld(step(callback, 0.7, seed=s, sides=0.0)) for s in range(40)][-1] is False
    assert float(callback.followed) < 0.1
    assert [withheld(step(callback, 0.3, seed=s)) for s in range(40)][-1] is True


def test_only_rows_that_contradict_the_view_firmly_tell_whether_it_is_followed() -> None:
    callback, other = made(), made()
    batch = step(callback, 0.7, sides=0.0)
    assert batch.logits is not None
    faint = Batch(
        0, 0, batch.index, batch.inputs, batch.targets, batch.rate, batch.mixed, batch.logits
    )  # fmt: skip
    contradicts = batch.published["conflict"]
    row = int(contradicts.nonzero()[0])
    faint.publish("conflict", torch.where(torch.arange(128) == row, 0.51, contradicts / 2))
    faint.publish("bias_group", batch.published["bias_group"])
    other.on_features(faint)
    assert float(callback.followed) == pytest.approx(4 / (8 + int(contradicts.sum())), rel=0.05)
    assert float(other.followed) == pytest.approx(4 / 9, rel=0.05)


@pytest.mark.parametrize(("right", "expected"), [(0.95, False), (0.8, False), (0.4, True)])
def test_signals_pass_only_where_the_view_tells_the_class(right: float, expected: bool) -> None:
    callback = made()
    last = [withheld(step(callback, right, seed=seed)) for seed in range(12)]
    assert last[:3] == [True] * 3  # less than 512 rows say nothing
    assert last[-1] is expected
    assert callback.findings()["shortcut"] is not expected
    assert callback.records["shortcut/found"] == float(not expected)  # type: ignore[index]


def test_evidence_is_the_agreement_of_the_latest_rows() -> None:
    callback = made(window=1024, hint=0)
    for seed in range(30):
        step(callback, 0.4, seed=seed)
    low = float(callback.evidence)
    for seed in range(30):
        step(callback, 0.95, seed=seed)
    assert low < 0.3 and float(callback.evidence) > 0.85


def test_the_verdict_stands_once_it_is_settled() -> None:
    callback = made(window=1024, early=1024, settle=1280)
    for seed in range(10):
        step(callback, 0.4, seed=seed)
    settled = float(callback.evidence)
    for knows in (False, True):  # the host, which stops weighing
        assert (callback._stands is not None) is knows
        for seed in range(30):
            last = step(callback, 0.95, seed=seed)
        assert float(callback.evidence) == settled < 0.3 and withheld(last)
        callback.on_epoch_end(callback.run)


def test_a_verdict_that_stands_is_known_to_the_host() -> None:
    both = {"conflict", "bias_group"}
    for right, hushed in ((0.4, both), (0.9, set())):
        callback = made(window=1024, early=1024, settle=1280)
        for seed in range(12):
            batch = step(callback, right, seed=seed)
            assert batch.withheld.keys() == both and not batch.hushed
        callback.on_epoch_end(callback.run)
        batch = step(callback, right)
        assert batch.hushed == batch.withheld.keys() == hushed
        assert withheld(batch) is bool(hushed)


def test_a_resumed_verdict_stands_as_it_stood() -> None:
    for right in (0.4, 0.9):
        first = made(window=1024, early=1024, settle=1280)
        for seed in range(12):
            step(first, right, seed=seed)
        first.on_epoch_end(first.run)
        second = made(window=1024, early=1024, settle=1280)
        second.load_state_dict(first.state_dict())
        one, other = step(first, right), step(second, right)
        assert one.hushed == other.hushed and withheld(one) is withheld(other)
        assert one.withheld.keys() == other.withheld.keys()


class Unsettled(Abstain):
    """Says the same and never lets the host know."""

    def on_epoch_end(self, run: Run) -> None:
        """Leave the verdict on the device."""


def test_who_rests_because_of_a_verdict_changes_no_weight() -> None:
    trained = []
    for verdict in (Abstain, Unsettled):
        scorer, *others, _ = make_recipe()
        others[0] = verdict(early=96, window=96, least=48, settle=144, name="abstain")
        mix, end = CrossBiasMix(), EnD(alpha=0.0, beta=1.0)
        callbacks = [scorer, *others[:-1], mix, end]
        trainer = Trainer(make_model(), make_images(rho=1 / 3), callbacks, epochs=5, batch_size=24)
        trainer.fit()
        assert mix.resting is (verdict is Abstain)
        trained.append(torch.cat([p.flatten() for p in trainer.model.state_dict().values()]))
    assert torch.equal(*trained)


@pytest.mark.parametrize(("at_first", "expected"), [(0.4, True), (0.7, False)])
def test_what_is_told_only_later_is_no_shortcut(at_first: float, expected: bool) -> None:
    callback = made(early=1024, window=1024)
    for seed in range(8):
        step(callback, at_first, seed=seed)
    for seed in range(40):
        last = step(callback, 0.95, seed=seed)
    assert float(agreement(callback.right, callback.seen)[0]) > 0.85
    assert (float(callback.evidence) < 0.3) is withheld(last) is expected
    assert bool(callback.found) is not expected


def test_what_is_published_stays_as_it_was_for_those_who_refine() -> None:
    batch = step(made(), 0.4)
    assert withheld(batch) and batch.published["conflict"].any()


def test_rows_drawn_often_count_as_often_as_they_would_be_drawn_evenly() -> None:
    """Drawing contradicting rows nine times as often changes nothing of the evidence."""
    callback = made()
    targets = torch.arange(CLASSES).repeat_interleave(32)
    often = torch.arange(128) % 4 < 3  # of each class three in four rows contradict
    group = torch.where(often, (targets + 1) % CLASSES, targets)
    rate = torch.where(often, 9.0, 0.3)
    for _ in range(8):
        batch = Batch(
            0, 0, torch.arange(128), torch.zeros(128, 1), targets, rate,
            torch.zeros(128, dtype=torch.bool),
        )  # fmt: skip
        batch.publish("conflict", often.float())
        batch.publish("bias_group", group)
        batch.logits = torch.zeros(128, CLASSES)
        callback.on_features(batch)
    told, contradicted = 1 / 0.3, 3 / 9
    expected = (told / (told + contradicted) - 0.25) / 0.75
    assert float(callback.evidence) == pytest.approx(expected, abs=1e-5)


def test_mixed_rows_and_batches_without_a_contradiction_say_nothing() -> None:
    callback = made()
    step(callback, 1.0)  # as before the scorer is ready
    step(callback, 0.4, mixed=torch.ones(128, dtype=torch.bool))
    assert float(callback.seen.sum()) == 0 == float(callback.rows)


def test_what_was_remembered_before_a_verdict_was_reversed_is_acted_on_no_more() -> None:
    """Scores get through, are remembered, are then withheld: all is drawn evenly, none mixed."""
    verdict = made(window=128, least=64)
    draw, mix = Resample(), CrossBiasMix(probability=1.0)
    for callback in (draw, mix):
        callback.run = verdict.run
        callback.setup(verdict.run)
    factors, mixed = [], []
    for right in (0.9, 0.2, 0.9):
        batch = step(verdict, right)
        for callback in (draw, mix):
            callback.on_features(batch)
        draw.on_epoch_end(verdict.run)
        factors.append(verdict.run.tables[draw.name].clone())
        following = step(made(), 0.5)
        mix.on_batch(following)
        mixed.append(bool(following.mixed.any()))
    assert mixed == [True, False, True]
    assert factors[1].unique().tolist() == [1.0]
    assert all(len(factor.unique()) > 1 for factor in (factors[0], factors[2]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 0.0}, "threshold is 0.0"),
        ({"sure": 0.4}, "sure is 0.4, expected threshold <= sure <= 1; threshold is 0.45"),
        ({"follow": 1.0}, "follow is 1.0, expected 0 <= follow < 1"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"least": 0}, "least is 0, window 4096 and settle 16384"),
        ({"window": 100}, "least is 512, window 100"),
        ({"settle": 1000}, "window 4096 and settle 1000"),
        ({"early": 100}, "early is 100, expected least <= early <= settle, which are 512 and"),
        ({"early": 20000}, "early is 20000, expected least <= early <= settle, which are 512 and"),
        ({"hint": 0.5}, "hint is 0.5, expected 0 <= hint <= threshold, which is 0.45"),
    ],
)
def test_wrong_arguments_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Abstain(**settings)  # type: ignore[arg-type]
