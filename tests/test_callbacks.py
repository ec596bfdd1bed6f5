"""What each callback contributes, seen through an engine on features that are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from online_debias.callbacks import ConflictScore, CrossBiasMix, EnD, Resample, Reweight
from online_debias.detectors import HalfSpaceTrees, MassTrees
from online_debias.engine import Batch, Callback, Engine
from online_debias.functional.losses.end import disentangle, entangle
from online_debias.functional.weights.draw_share import draw_share

N, CLASSES = 512, 4


class Known(Callback):
    """Publishes a score and a bias value that the test chose."""

    provides = ("conflict", "bias_label")

    def __init__(self, score: Tensor, group: Tensor) -> None:
        super().__init__()
        self.score, self.group = score, group

    def on_features(self, batch: Batch) -> None:
        batch.publish("conflict", self.score[batch.index].masked_fill(batch.mixed, 0))
        batch.publish("bias_label", self.group[batch.index])


class Net(nn.Module):
    """Inputs are the features, at both taps."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1, self.head = nn.Identity(), nn.Linear(CLASSES, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.stage1(inputs))
        return logits


def features(rho: float = 0.9) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs `[N, C]` that show a bias value, the bias values, and the targets."""
    stream = torch.Generator().manual_seed(0)
    targets = torch.arange(N) % CLASSES
    other = (targets + torch.randint(1, CLASSES, (N,), generator=stream)) % CLASSES
    bias = torch.where(torch.rand(N, generator=stream) < rho, targets, other)
    noise = 0.1 * torch.randn(N, CLASSES, generator=stream)
    return nn.functional.one_hot(bias, CLASSES) + noise, bias, targets


def build(*callbacks: Callback) -> Engine:
    torch.manual_seed(0)
    net = Net()
    one = Engine(net, callbacks, n_samples=N, n_classes=CLASSES)
    NETS[id(one)] = net
    return one


NETS: dict[int, nn.Module] = {}


def step(one: Engine, rows: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Batch, Tensor]:
    batch = one.start_step(rows, inputs[rows], targets[rows])
    loss = one.loss(batch, NETS[id(one)](batch.inputs))
    one.end_step(batch)
    return batch, loss


def shuffled() -> tuple[Tensor, ...]:
    return torch.randperm(N, generator=torch.Generator().manual_seed(1)).split(64)


def test_conflict_score_finds_rows_that_look_like_another_class() -> None:
    inputs, bias, targets = features()
    one = build(ConflictScore(HalfSpaceTrees(n_trees=50, fold=64)))
    batches = [step(one, rows, inputs, targets)[0] for _ in range(3) for rows in shuffled()]
    first, last = batches[0], batches[-8:]
    assert not first.signals["conflict"].any()
    assert torch.equal(first.signals["bias_label"], first.targets)
    rows = torch.cat([batch.index for batch in last])
    group = torch.cat([batch.signals["bias_label"] for batch in last])
    score = torch.cat([batch.signals["conflict"] for batch in last])
    assert (group == bias[rows]).float().mean() > 0.97
    conflicting = bias[rows] != targets[rows]
    assert score[conflicting].min() > score[~conflicting].quantile(0.98)


def test_mixed_rows_are_published_as_agreeing_and_teach_nothing() -> None:
    class Mixes(Callback):
        def on_batch(self, batch: Batch) -> None:
            batch.mixed = torch.ones_like(batch.mixed)

    inputs, _, targets = features()
    score = ConflictScore(HalfSpaceTrees(n_trees=5, fold=16))
    one = build(score, Mixes())
    for rows in shuffled():
        batch, _ = step(one, rows, inputs, targets)
        assert not batch.signals["conflict"].any()
        assert torch.equal(batch.signals["bias_label"], batch.targets)
    assert not score.detector.open.any() and not score.detector.reference.any()  # type: ignore[operator]


def test_rows_that_are_drawn_often_teach_less() -> None:
    inputs, _, targets = features()
    one = build(score := ConflictScore(MassTrees(n_trees=5, fold=10**6, normalizer="none")))
    one.run.tables["by hand"] = torch.where(torch.arange(N) < N // 2, 3.0, 1.0)
    one.sampling.indices()
    step(one, torch.arange(64), inputs, targets)
    mass = score.detector.open.sum() / 5  # type: ignore[operator]
    assert mass == pytest.approx(64 / 1.5)


def test_a_detector_that_ignores_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="ConflictScore: .*MassTrees ignores classes"):
        ConflictScore(MassTrees(classes=False))
    for detector in (HalfSpaceTrees(), MassTrees()):
        assert ConflictScore(detector).provides[0] == "conflict"


def test_without_posteriors_there_is_no_bias_value() -> None:
    mass = ConflictScore(MassTrees())
    assert mass.provides == ("conflict",)
    with pytest.raises(ValueError, match="'end' requires the signal 'bias_label'"):
        build(mass, EnD())


def test_two_scorers_live_in_one_run() -> None:
    inputs, _, targets = features()
    second = ConflictScore(MassTrees(fold=16), "bottleneck", "density", name="density_score")
    one = build(ConflictScore(), second, Reweight("density"))
    batch, _ = step(one, torch.arange(64), inputs, targets)
    assert set(batch.signals) == {"conflict", "bias_label", "density"}


def test_resample_gives_conflicting_samples_their_share() -> None:
    inputs, bias, targets = features()
    score = (bias != targets).float()
    one = build(Known(score, bias), Resample(share=0.7, sharpness=60))
    for rows in shuffled():
        assert step(one, rows, inputs, targets)[0].rate.eq(1).all()
    one.end_epoch()
    drawn = one.sampling.indices()
    share = (bias[drawn] != targets[drawn]).float().mean()
    assert share.item() == pytest.approx(0.7, abs=0.02)
    counts = torch.bincount(targets[drawn], minlength=CLASSES)
    assert (counts - N / CLASSES).abs().max() <= 8
    rate = one.sampling.rate_of(torch.arange(N))
    assert rate.mean().item() == pytest.approx(1)


def test_resample_gives_its_share_to_one_conflicting_sample_in_a_thousand() -> None:
    usual = Resample()
    score, targets = torch.zeros(2000), torch.arange(2000) // 1000
    score[::1000] = 1.0
    factor = draw_share(score, targets, 2, usual.share, usual.sharpness)
    assert factor[::1000].tolist() == pytest.approx([1000 * usual.share] * 2, rel=0.02)


def test_resample_draws_evenly_while_it_warms_up() -> None:
    inputs, bias, targets = features()
    one = build(Known((bias != targets).float(), bias), Resample(warmup=2))
    for epoch in range(2):
        for rows in shuffled():
            step(one, rows, inputs, targets)
        assert not one.run.tables, epoch
        one.end_epoch()
    assert set(one.run.tables) == {"resample"}


def test_reweight_is_inverse_propensity_up_to_the_limit() -> None:
    inputs, bias, targets = features()
    score = torch.tensor([0.0, 0.5, 0.9, 1.0])[torch.arange(N) % 4]
    one = build(Known(score, bias), Reweight(limit=20))
    batch, loss = step(one, torch.arange(8), inputs, targets)
    factor = torch.tensor([1.0, 2.0, 10.0, 20.0]).repeat(2)
    assert batch.weights is not None and batch.losses is not None
    torch.testing.assert_close(batch.weights, factor / factor.mean())
    torch.testing.assert_close(loss, (batch.weights * batch.losses).mean())


def test_cross_bias_mix_blends_rows_of_one_class_and_other_bias() -> None:
    inputs, bias, targets = features(rho=0.5)
    one = build(Known(torch.zeros(N), bias), CrossBiasMix(probability=1.0))
    rows = torch.arange(64)
    first, _ = step(one, rows, inputs, targets)
    assert not first.mixed.any()  # nothing is known of anybody's bias yet
    second, _ = step(one, rows, inputs, targets)
    assert second.mixed.float().mean() > 0.9
    for row in range(64):
        mixed, own = second.inputs[row], inputs[row]
        if not second.mixed[row]:
            assert torch.equal(mixed, own)
            continue
        partners = rows[(targets[rows] == targets[row]) & (bias[rows] != bias[row])]
        fits = False
        for partner in partners.tolist():
            other = inputs[partner]
            share = ((mixed - other) @ (own - other)) / (own - other).square().sum()
            fits |= bool(0 <= share <= 1) and torch.allclose(
                mixed, share * own + (1 - share) * other, atol=1e-5
            )
        assert fits, row


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_end_adds_its_terms_at_the_bottleneck(variant: str) -> None:
    inputs, bias, targets = features(rho=0.5)
    one = build(Known(torch.zeros(N), bias), EnD(0.3, 0.7, variant))  # type: ignore[arg-type]
    rows = torch.arange(64)
    batch, loss = step(one, rows, inputs, targets)
    keep = torch.ones(64, dtype=torch.bool)
    arguments = (keep, variant)
    expected = 0.3 * disentangle(inputs[rows], bias[rows], *arguments)  # type: ignore[arg-type]
    expected += 0.7 * entangle(inputs[rows], targets[rows], bias[rows], *arguments)  # type: ignore[arg-type]
    torch.testing.assert_close(batch.terms["end"], expected)
    assert batch.losses is not None
    torch.testing.assert_close(loss, batch.losses.mean() + expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Resample(share=1.0), "share is 1.0, expected a number between 0 and 1"),
        (lambda: Resample(warmup=0), "warmup is 0, expected at least 1 epoch"),
        (lambda: Reweight(limit=1.0), "limit is 1.0, expected a number above 1"),
        (
            lambda: CrossBiasMix(probability=0.0),
            "probability is 0.0, expected 0 < probability <= 1",
        ),
        (lambda: CrossBiasMix(concentration=0), "concentration is 0, expected a whole number >= 1"),
        (lambda: EnD(0, 0), "alpha is 0 and beta 0, expected numbers >= 0, not both 0"),
        (lambda: EnD(variant="Paper"), "variant is 'Paper', expected 'paper' or 'code'"),
    ],
)
def test_arguments_out_of_range_are_refused(make: type[Callback], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
