"""Callbacks with a network of their own: their maths against loops, and who learns from what."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from online_debias.callbacks.sampling.relative_difficulty import RelativeDifficulty, Variant
from online_debias.callbacks.terms.independence import Independence
from online_debias.engine import Batch, Callback, Engine
from online_debias.functional.losses.gce import (
    GeneralizedCrossEntropy,
    generalized_cross_entropy,
    scaled_cross_entropy,
)
from online_debias.functional.losses.hsic import hsic, rbf_kernel
from online_debias.functional.weights.mass_mean import mass_mean
from online_debias.functional.weights.relative_difficulty import relative_difficulty
from online_debias.models import SimpleConvNet, SmallConvNet
from online_debias.settings import parser
from tests.conftest import make_images, make_trainer

N, CLASSES = 24, 3


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Net(nn.Module):
    """A network without batch norm, so that no row depends on another."""

    def __init__(self, n_classes: int = CLASSES, width: int = 5) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(12, width), nn.Tanh())
        self.head = nn.Linear(width, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(images))
        return logits


class Mixes(Callback):
    """Marks the rows that the test chose, and puts noise in their place."""

    def __init__(self, rows: list[int], seed: int = 0) -> None:
        super().__init__()
        self.rows, self.seed = rows, seed

    def on_batch(self, batch: Batch) -> None:
        batch.mixed = batch.mixed.index_fill(0, torch.tensor(self.rows, dtype=torch.long), True)
        noise = torch.rand(batch.inputs.shape, generator=stream(self.seed))
        batch.inputs = torch.where(batch.mixed.view(-1, 1, 1, 1), noise, batch.inputs)


IMAGES = torch.rand(N, 3, 2, 2, generator=stream(0)) - 0.5
TARGETS = torch.arange(N) % CLASSES


class World:
    """An engine around a small model, stepped by hand."""

    def __init__(self, *callbacks: Callback) -> None:
        torch.manual_seed(0)
        self.model = Net()
        self.engine = Engine(self.model, callbacks, n_samples=N, n_classes=CLASSES)

    def step(self, rows: Tensor) -> tuple[Batch, Tensor]:
        batch = self.engine.start_step(rows, IMAGES[rows], TARGETS[rows])
        loss = self.engine.loss(batch, self.model(batch.inputs))
        self.engine.end_step(batch)
        return batch, loss


def gradients(loss: Tensor, module: nn.Module) -> list[Tensor | None]:
    parameters = list(module.parameters())
    return list(torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True))


def nothing(found: list[Tensor | None]) -> bool:
    return all(gradient is None or not gradient.any() for gradient in found)


# Generalised cross-entropy as a criterion, and as LfF's release has it.


def test_gce_is_a_criterion() -> None:
    logits, targets = torch.randn(6, 3, generator=stream(0)), torch.tensor([0, 1, 2] * 2)
    criterion = GeneralizedCrossEntropy(q=0.4)
    expected = generalized_cross_entropy(logits, targets, 0.4)
    torch.testing.assert_close(criterion(logits, targets), expected, rtol=0, atol=0)
    model = Net()
    engine = Engine(model, n_samples=N, n_classes=CLASSES, criterion=criterion)
    batch = engine.start_step(torch.arange(6), IMAGES[:6], TARGETS[:6])
    loss = engine.loss(batch, model(batch.inputs))
    expected = generalized_cross_entropy(model(IMAGES[:6]), TARGETS[:6], 0.4).mean()
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("q", [0.0, -0.1, 1.5])
def test_gce_refuses_other_powers(q: float) -> None:
    with pytest.raises(ValueError, match=rf"GeneralizedCrossEntropy: q is {q}, expected 0 < q"):
        GeneralizedCrossEntropy(q)


@pytest.mark.parametrize("q", [0.2, 0.7, 1.0])
def test_scaled_cross_entropy_has_q_times_the_gradient_of_gce(q: float) -> None:
    logits = torch.randn(20, 5, generator=stream(0), dtype=torch.float64).mul(3).requires_grad_()
    targets = torch.randint(5, (20,), generator=stream(1))
    losses = scaled_cross_entropy(logits, targets, q)
    for row, target, loss in zip(logits.tolist(), targets.tolist(), losses.tolist(), strict=True):
        p = math.exp(row[target]) / sum(map(math.exp, row))
        assert loss == pytest.approx(-math.log(p) * q * p**q, rel=1e-9)
    (ours,) = torch.autograd.grad(losses.sum(), logits)
    (true,) = torch.autograd.grad(generalized_cross_entropy(logits, targets, q).sum(), logits)
    torch.testing.assert_close(ours, q * true)


def test_mass_mean_counts_rows_by_their_mass() -> None:
    value, mass = torch.rand(9, generator=stream(0)), torch.rand(9, generator=stream(1))
    mass[3] = 0
    total = sum(m * v for m, v in zip(mass.tolist(), value.tolist(), strict=True))
    assert mass_mean(value, mass).item() == pytest.approx(total / sum(mass.tolist()))
    assert mass_mean(value, torch.zeros(9)).item() == 0


# LfF.


def difficulty_loops(
    biased: dict[int, float], own: dict[int, float], targets: list[int], index: list[int]
) -> list[float]:
    found = []
    for i in index:
        if i not in biased:
            found.append(0.5)
            continue
        shares = []
        for remembered in (biased, own):
            largest = max(loss for j, loss in remembered.items() if targets[j] == targets[i])
            shares.append(remembered[i] / largest)
        found.append(shares[0] / (shares[0] + shares[1] + 1e-8))
    return found


def test_relative_difficulty_is_the_formula_sample_by_sample() -> None:
    for seed in range(5):
        biased, own = torch.rand(2, N, generator=stream(seed)).mul(4).unbind()
        unseen = torch.rand(N, generator=stream(seed + 10)) < 0.3
        seen = [i for i in range(N) if not unseen[i]]
        targets = torch.where(unseen, 0, TARGETS)
        index = torch.randint(N, (40,), generator=stream(seed + 20))
        expected = difficulty_loops(
            {i: biased[i].item() for i in seen},
            {i: own[i].item() for i in seen},
            targets.tolist(),
            index.tolist(),
        )
        tables = biased.masked_fill(unseen, torch.nan), own.masked_fill(unseen, torch.nan)
        actual = relative_difficulty(*tables, targets, index, CLASSES)
        assert actual.tolist() == pytest.approx(expected, rel=1e-5)
        assert unseen[index].any() and not unseen[index].all()


def test_a_class_without_any_loss_is_not_difficult() -> None:
    zeros = torch.zeros(2)
    weight = relative_difficulty(zeros, zeros, torch.tensor([0, 0]), torch.tensor([0, 1]), 1)
    assert weight.tolist() == [0, 0]


def cross_entropies(network: nn.Module, rows: Tensor) -> list[float]:
    with torch.no_grad():
        losses = F.cross_entropy(network(IMAGES[rows]), TARGETS[rows], reduction="none")
    return losses.tolist()


def test_rows_weigh_their_relative_difficulty_from_averages_over_visits() -> None:
    lff = RelativeDifficulty(Net, momentum=0.6)
    world = World(lff)
    biased: dict[int, float] = {}
    own: dict[int, float] = {}
    steps = ([0, 1, 2, 3, 4, 5], [4, 5, 6, 7, 8, 9], [9, 0, 5, 12, 4, 1])
    for rows in map(torch.tensor, steps):
        for remembered, network in ((biased, lff.network), (own, world.model)):
            for i, new in zip(rows.tolist(), cross_entropies(network, rows), strict=True):
                first = i not in remembered
                remembered[i] = new if first else 0.6 * remembered[i] + 0.4 * new
        batch, loss = world.step(rows)
        expected = difficulty_loops(biased, own, TARGETS.tolist(), rows.tolist())
        weight = batch.factors["relative_difficulty"]
        assert weight.tolist() == pytest.approx(expected, rel=1e-4)
        assert batch.losses is not None
        reweighted = (weight / weight.mean() * batch.losses).mean()
        torch.testing.assert_close(loss, reweighted + batch.terms["relative_difficulty"])
        with torch.no_grad():  # both networks change from step to step
            for parameter in (*world.model.parameters(), *lff.parameters()):
                parameter += 0.3 * torch.randn(parameter.shape, generator=stream(len(biased)))


@pytest.mark.parametrize(
    ("variant", "criterion"),
    [("paper", generalized_cross_entropy), ("code", scaled_cross_entropy)],
)
def test_the_second_network_learns_by_its_own_loss_alone(
    variant: Variant, criterion: Callable[..., Tensor]
) -> None:
    lff = RelativeDifficulty(Net, q=0.5, variant=variant)
    world = World(lff)
    rows = torch.arange(10)
    batch, loss = world.step(rows)
    logits = lff.network(IMAGES[rows])
    torch.testing.assert_close(batch.signals["bias_logits"], logits.detach())
    assert not batch.signals["bias_logits"].requires_grad
    own = criterion(logits, TARGETS[rows], 0.5).mean()
    torch.testing.assert_close(batch.terms["relative_difficulty"], own)
    assert nothing(gradients(batch.terms["relative_difficulty"], world.model))
    for ours, expected in zip(
        gradients(loss, lff.network), gradients(own, lff.network), strict=True
    ):
        torch.testing.assert_close(ours, expected)
    assert batch.losses is not None and batch.weights is not None
    plain = F.cross_entropy(world.model(IMAGES[rows]), TARGETS[rows], reduction="none")
    expected_loss = (batch.weights * plain).mean()
    for ours, expected in zip(
        gradients(loss, world.model), gradients(expected_loss, world.model), strict=True
    ):
        torch.testing.assert_close(ours, expected)


def test_mixed_rows_weigh_what_is_remembered_and_teach_nothing() -> None:
    lff, mixes = RelativeDifficulty(Net), Mixes([])
    world = World(lff, mixes)
    world.step(torch.arange(6))
    mixes.rows = [0, 5]  # sample 0 was seen before, sample 11 was not
    rows = torch.tensor([0, 1, 2, 9, 10, 11])
    batch, _ = world.step(rows)
    kept = rows[1:5]
    own = generalized_cross_entropy(lff.network(IMAGES[kept]), TARGETS[kept]).mean()
    torch.testing.assert_close(batch.terms["relative_difficulty"], own)
    for memory, network in ((lff.biased, lff.network), (lff.own, world.model)):
        (remembered,) = cross_entropies(network, torch.tensor([0]))
        assert memory.values[0].item() == pytest.approx(remembered)
        assert memory.values[11].isnan() and not memory.values[10].isnan()
    values = lff.biased.values, lff.own.values
    expected = relative_difficulty(*values, TARGETS, rows, CLASSES)
    torch.testing.assert_close(batch.factors["relative_difficulty"], expected)
    assert batch.factors["relative_difficulty"][5] == 0.5
    mixes.rows = list(range(6))
    batch, loss = world.step(torch.arange(6))
    assert batch.terms["relative_difficulty"] == 0 and loss.isfinite()


def test_rows_that_are_drawn_often_do_not_debias_the_second_network() -> None:
    lff = RelativeDifficulty(Net)
    world = World(lff)
    world.engine.run.tables["by hand"] = torch.where(torch.arange(N) < N // 2, 3.0, 1.0)
    world.engine.sampling.indices()
    rows = torch.tensor([0, 1, 2, 20])
    batch, _ = world.step(rows)
    losses = generalized_cross_entropy(lff.network(IMAGES[rows]), TARGETS[rows])
    expected = (losses[:3].sum() / 3 + losses[3]) / (3 / 3 + 1)
    torch.testing.assert_close(batch.terms["relative_difficulty"], expected)


def test_conflicting_samples_weigh_more_and_the_second_network_stays_in_training() -> None:
    images = make_images()
    lff = RelativeDifficulty()
    trainer = make_trainer(
        [lff],
        images,
        epochs=4,
        batch_size=48,
        log_every=10**6,
        evaluate_on={"test": make_images(60, 0.33, 1)},
    )
    trainer.fit()
    assert isinstance(lff.network, SmallConvNet) and lff.network.training
    assert any(key.startswith("network.") and "running_mean" in key for key in lff.state_dict())
    every = torch.arange(len(images))
    weight = relative_difficulty(lff.biased.values, lff.own.values, images.targets, every, 3)
    assert images.conflicting is not None
    assert weight[images.conflicting].mean() > 1.5 * weight[~images.conflicting].mean()


# Independence.


def hsic_loops(kernel: Tensor, other: Tensor, rows: list[int]) -> float:
    """The mean over ordered quadruples of different rows, of which the estimate is a short form."""
    k, m = kernel.tolist(), other.tolist()
    terms = [
        k[i][j] * m[i][j] + k[i][j] * m[q][r] - 2 * k[i][j] * m[i][q]
        for i, j, q, r in itertools.permutations(rows, 4)
    ]
    return sum(terms) / len(terms)


def kernel_loops(features: Tensor, rows: list[int], sigma: float) -> dict[tuple[int, int], float]:
    x = features.tolist()
    distance = {
        (i, j): sum((a - b) ** 2 for a, b in zip(x[i], x[j], strict=True))
        for i in rows
        for j in rows
    }
    mean = sum(distance.values()) / (len(rows) * (len(rows) - 1))
    return {pair: math.exp(-d / (2 * sigma**2 * mean)) for pair, d in distance.items()}


def features(seed: int, n: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(n, 3, generator=stream(seed), dtype=torch.float64)
    y = x[:, :2].tanh() + 0.3 * torch.randn(n, 2, generator=stream(seed + 1), dtype=torch.float64)
    keep = torch.rand(n, generator=stream(seed + 2)) < 0.7
    keep[:5] = True
    return x, y, keep


def test_hsic_is_the_mean_over_quadruples_of_kept_rows() -> None:
    for seed in range(5):
        x, y, keep = features(seed)
        rows = [i for i in range(len(keep)) if keep[i]]
        kernel, other = rbf_kernel(x, keep, 0.8), rbf_kernel(y, keep, 1.3)
        for (i, j), value in kernel_loops(x, rows, 0.8).items():
            assert kernel[i, j].item() == pytest.approx(value, rel=1e-9)
        expected = hsic_loops(kernel, other, rows)
        assert hsic(kernel, other, keep).item() == pytest.approx(expected, rel=1e-9)
        assert abs(expected) > 1e-4


def test_hsic_is_zero_for_less_than_four_rows_and_for_equal_ones() -> None:
    x, y, keep = features(0)
    for n in range(4):
        few = torch.arange(len(keep)) < n
        leaf = x.clone().requires_grad_()
        value = hsic(rbf_kernel(leaf, few, 1.0), rbf_kernel(y, few, 1.0), few)
        value.backward()
        assert value == 0 and leaf.grad is not None and not leaf.grad.any()
    same = torch.ones(8, 3, requires_grad=True)
    every = torch.ones(8, dtype=torch.bool)
    value = hsic(rbf_kernel(same, every, 1.0), rbf_kernel(y.float(), every, 1.0), every)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert same.grad is not None and same.grad.isfinite().all()


def test_hsic_tells_dependent_features_from_independent_ones_at_any_scale() -> None:
    x = torch.randn(200, 64, generator=stream(0))
    other = torch.randn(200, 64, generator=stream(1))
    every = torch.ones(200, dtype=torch.bool)
    for scale in (1e-3, 1.0, 1e3):
        kernel = rbf_kernel(scale * x, every, 1.0)
        dependent = hsic(kernel, rbf_kernel(x[:, :32].tanh(), every, 1.0), every)
        independent = hsic(kernel, rbf_kernel(other, every, 1.0), every)
        assert dependent > 5e-4 and abs(independent) < dependent / 10


def test_no_gradient_goes_into_rows_left_out_or_into_the_scale() -> None:
    x, y, keep = features(3)
    x.requires_grad_()
    hsic(rbf_kernel(x, keep, 1.0), rbf_kernel(y, keep, 1.0), keep).backward()
    assert x.grad is not None
    assert x.grad[keep].any() and x.grad[~keep].abs().max() < 1e-15
    centred = (x - x[keep].mean(0)).detach()
    assert (x.grad * centred).sum().item() == pytest.approx(0, abs=1e-12)


def world_of_two(weight: float = 2.0, *others: Callback) -> tuple[World, Independence]:
    independence = Independence(Net, weight=weight, sigma=0.7)
    return World(independence, *others), independence


def test_both_networks_get_their_term_and_learn_nothing_from_the_other() -> None:
    world, two = world_of_two()
    rows = torch.arange(12)
    batch, loss = world.step(rows)
    every = torch.ones(12, dtype=torch.bool)
    f, g = world.model.body(IMAGES[rows]), two.network.body(IMAGES[rows])  # type: ignore[operator]
    dependence = 2 * hsic(rbf_kernel(f, every, 0.7), rbf_kernel(g, every, 0.7), every)
    own = F.cross_entropy(two.network(IMAGES[rows]), TARGETS[rows])
    torch.testing.assert_close(batch.terms["independence"], dependence)
    torch.testing.assert_close(batch.terms["independence_head"], own - dependence)
    assert nothing(gradients(batch.terms["independence"], two.network))
    assert nothing(gradients(batch.terms["independence_head"], world.model))
    plain = F.cross_entropy(world.model(IMAGES[rows]), TARGETS[rows])
    for network, expected in ((world.model, plain + dependence), (two.network, own - dependence)):
        pairs = zip(gradients(loss, network), gradients(expected, network), strict=True)
        for ours, theirs in pairs:
            torch.testing.assert_close(ours, theirs)
    assert dependence.abs() > 1e-4


def test_mixed_rows_count_in_neither_term() -> None:
    found = []
    for seed in (0, 1):
        world, two = world_of_two(2.0, Mixes([1, 4], seed))
        batch, _ = world.step(torch.arange(12))
        found.append([batch.terms[name].item() for name in sorted(batch.terms)])
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    world, two = world_of_two()
    batch, _ = world.step(torch.tensor([0, 2, 3, 5, 6, 7, 8, 9, 10, 11]))
    assert found[0] == pytest.approx(
        [batch.terms[name].item() for name in sorted(batch.terms)], rel=1e-4
    )


def test_rows_that_are_drawn_often_do_not_debias_its_second_network() -> None:
    world, two = world_of_two()
    world.engine.run.tables["by hand"] = torch.where(torch.arange(N) < N // 2, 3.0, 1.0)
    world.engine.sampling.indices()
    rows = torch.tensor([0, 1, 2, 20])
    batch, _ = world.step(rows)
    losses = F.cross_entropy(two.network(IMAGES[rows]), TARGETS[rows], reduction="none")
    expected = (losses[:3].sum() / 3 + losses[3]) / 2
    torch.testing.assert_close(sum(batch.terms.values()), expected)


def test_training_makes_the_features_less_dependent_and_the_default_sees_colour_only() -> None:
    def dependence(weight: float) -> float:
        two = Independence(weight=weight)
        trainer = make_trainer([two], epochs=4, batch_size=80, log_every=10**6)
        trainer.fit()
        assert isinstance(two.network, SimpleConvNet) and two.network.training
        kernels = [m.kernel_size for m in two.network.modules() if isinstance(m, nn.Conv2d)]
        assert kernels == [(1, 1)] * 4
        batch = trainer.engine.start_step(*next(iter(trainer.loader)))
        trainer.engine.loss(batch, trainer.model(batch.inputs))
        return batch.terms["independence"].item() / weight

    assert dependence(30.0) < 0.7 * dependence(1e-3)


# Both.


@pytest.mark.parametrize("kind", [RelativeDifficulty, Independence])
def test_the_second_network_can_be_named_in_settings(kind: type[Callback]) -> None:
    settings, _ = parser.parse([
        "--method=plain",
        f"--callbacks+={kind.__module__}.{kind.__name__}",
        "--callbacks.network=online_debias.models.SimpleConvNet",
        "--callbacks.network.kernel_size=3",
    ])  # fmt: skip
    callback = settings.callbacks[-1]
    world = World(callback)
    assert isinstance(callback.network, SimpleConvNet)
    assert callback.network.head.out_features == CLASSES
    assert {id(p) for p in callback.network.parameters()} <= {
        id(p) for p in world.engine.parameters()
    }


@pytest.mark.parametrize("make", [RelativeDifficulty, Independence])
def test_the_seed_decides_the_second_network(make: Callable[[], Callback]) -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(7 * seed + 1)
        engine = Engine(Net(), [make()], n_samples=N, n_classes=CLASSES, seed=seed)
        return torch.cat([p.detach().flatten() for p in engine.parameters()])

    assert torch.equal(weights(0), weights(0)) and not torch.equal(weights(0), weights(1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RelativeDifficulty(Net()), "RelativeDifficulty: network is a module, expected"),
        (lambda: RelativeDifficulty(q=0.0), "RelativeDifficulty: q is 0.0, expected 0 < q <= 1"),
        (
            lambda: RelativeDifficulty(momentum=1.0),
            "RelativeDifficulty: momentum is 1.0, expected 0 <= momentum < 1",
        ),
        (
            lambda: RelativeDifficulty(variant="Code"),  # type: ignore[arg-type]
            "RelativeDifficulty: variant is 'Code', expected 'paper' or 'code'",
        ),
        (lambda: Independence(Net()), "Independence: network is a module, expected"),
        (lambda: Independence(weight=0.0), "Independence: weight is 0.0, expected a number above"),
        (lambda: Independence(sigma=-1.0), "Independence: sigma is -1.0, expected a number above"),
    ],
)
def test_arguments_out_of_range_are_refused(make: Callable[[], Callback], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
