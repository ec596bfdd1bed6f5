"""ClusterFix: losses by cluster, weights and moving averages, against loops over samples."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from online_debias.callbacks.sampling.cluster_weights import ClusterWeights
from online_debias.callbacks.views.online_clusters import OnlineClusters
from online_debias.engine import Batch, Callback, Engine, Run
from online_debias.engine.weights import effective_sample_size
from online_debias.functional.weights.cluster_weights import (
    average_visited,
    cluster_means,
    cluster_weights,
    own_pseudo_losses,
)
from tests.no_sync import NoSync

torch.set_num_threads(1)
N, CLASSES, K, WIDTH = 24, 3, 2, 5
Variant = Literal["paper", "code"]
VARIANTS: tuple[Variant, ...] = ("paper", "code")


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# The pure functions.


def test_pseudo_losses_are_those_of_the_head_of_the_class() -> None:
    features = torch.randn(9, WIDTH, generator=stream(0))
    targets, cluster = torch.arange(9) % CLASSES, torch.arange(9) % K
    weight = torch.randn(CLASSES, K, WIDTH, generator=stream(1))
    bias = torch.randn(CLASSES, K, generator=stream(2))
    losses = own_pseudo_losses(features, targets, cluster, weight, bias)
    for row in range(9):
        y, c = int(targets[row]), int(cluster[row])
        logits = [
            sum(w * x for w, x in zip(weight[y, j].tolist(), features[row].tolist(), strict=True))
            + bias[y, j].item()
            for j in range(K)
        ]
        expected = math.log(sum(map(math.exp, logits))) - logits[c]
        assert losses[row].item() == pytest.approx(expected, rel=1e-4)


def test_a_class_without_rows_gets_no_gradient() -> None:
    weight = torch.randn(CLASSES, K, WIDTH, generator=stream(1)).requires_grad_()
    features = torch.randn(4, WIDTH, generator=stream(0)).requires_grad_()
    zeros = torch.zeros(4, dtype=torch.long)
    own_pseudo_losses(features, zeros, zeros, weight, torch.zeros(CLASSES, K)).sum().backward()
    assert weight.grad is not None and features.grad is not None
    assert weight.grad[0].any() and not weight.grad[1:].any()
    assert features.grad.any(1).all()


def test_cluster_means_are_over_the_samples_seen() -> None:
    losses = torch.rand(40, generator=stream(0), dtype=torch.float64)
    cluster = torch.randint(5, (40,), generator=stream(1)).double()
    losses[::7] = cluster[::7] = torch.nan
    mean, size = cluster_means(losses, cluster, 6)
    for number in range(6):
        own = [losses[i].item() for i in range(40) if cluster[i] == number]
        assert size[number] == len(own)
        assert mean[number].item() == pytest.approx(sum(own) / len(own) if own else 0)
    assert size[5] == 0 and size.sum() == 34


def test_weights_are_the_formula_and_average_to_1_over_the_samples() -> None:
    mean, size = torch.tensor([0.2, 1.5, 0.0, 0.4]), torch.tensor([50.0, 3.0, 0.0, 7.0])
    expected = [60 / n * loss / 2.1 if n else 0 for loss, n in zip(mean, size, strict=True)]
    weights = cluster_weights(mean, size)
    assert weights.tolist() == pytest.approx([float(weight) for weight in expected])
    assert ((weights * size).sum() / size.sum()).item() == pytest.approx(1)


def test_clusters_without_a_loss_count_as_equally_hard() -> None:
    weights = cluster_weights(torch.zeros(3), torch.tensor([6.0, 2.0, 0.0]))
    assert weights.tolist() == pytest.approx([8 / 6 / 2, 8 / 2 / 2, 0])
    assert not cluster_weights(torch.zeros(3), torch.zeros(3)).any()


def test_only_clusters_that_are_visited_move() -> None:
    average, value = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([5.0, 6.0, 7.0])
    cluster, keep = torch.tensor([0, 0, 2]), torch.tensor([True, True, False])
    moved = average_visited(average, value, cluster, keep, 0.25)
    assert moved.tolist() == [2.0, 2.0, 3.0]


# The callback.


class Net(nn.Module):
    """Inputs times a diagonal are the features at the bottleneck."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.head = nn.Parameter(torch.ones(WIDTH)), nn.Linear(WIDTH, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(inputs * self.scale)
        return logits


class Given(Callback):
    """Publishes clusters by sample and step, and marks rows as mixed, as the test chose."""

    provides = ("cluster",)

    def __init__(self, mixed: Callable[[Batch], Tensor] | None = None, k: int = K) -> None:
        super().__init__()
        self.chosen, self.k = mixed, k

    def setup(self, run: Run) -> None:
        run.n_values["cluster"] = CLASSES * self.k

    def on_batch(self, batch: Batch) -> None:
        if self.chosen is not None:
            batch.mixed = self.chosen(batch)

    def on_features(self, batch: Batch) -> None:
        # Clusters change at the eighth step.
        number = (batch.index // CLASSES + (batch.index % 5 == 0) * (batch.step > 8)) % self.k
        batch.publish("cluster", batch.targets * self.k + number)


class Fit:
    """An engine, its model and an optimizer, over known inputs."""

    def __init__(self, *callbacks: Callback) -> None:
        torch.manual_seed(0)
        self.inputs = torch.randn(N, WIDTH, generator=stream(0))
        self.targets = torch.arange(N) % CLASSES
        self.net = Net()
        self.engine = Engine(self.net, callbacks, n_samples=N, n_classes=CLASSES)
        every = [*self.net.parameters(), *self.engine.parameters()]
        self.optimizer = torch.optim.Adam(every, 0.05, fused=True)

    def step(self, rows: Tensor) -> Batch:
        batch = self.engine.start_step(rows, self.inputs[rows], self.targets[rows])
        loss = self.engine.loss(batch, self.net(batch.inputs))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.engine.end_step(batch)
        return batch


class Loops:
    """The two variants sample by sample, as they are written down."""

    def __init__(self, variant: Variant, momentum: float) -> None:
        self.variant, self.momentum = variant, momentum
        self.losses: dict[int, float] = {}
        self.clusters: dict[int, int] = {}
        self.by_sample = [1.0] * N
        self.by_cluster = [1.0] * (CLASSES * K)

    def step(
        self, ids: list[int], clusters: list[int], target: list[float], pseudo: list[float]
    ) -> list[float]:
        for i, c, l_t, l_p in zip(ids, clusters, target, pseudo, strict=True):
            self.losses[i] = l_p if self.variant == "code" else (l_t + l_p) / 2
            self.clusters[i] = c
        mean = []
        for c in range(CLASSES * K):
            own = [self.losses[i] for i in self.losses if self.clusters[i] == c]
            mean.append(sum(own) / len(own) if own else 0.0)
        seen = list(self.clusters.values())
        m = self.momentum

        def weight(c: int) -> float:
            return len(seen) / seen.count(c) * mean[c] / sum(mean)

        if self.variant == "paper":
            for c in set(clusters):
                self.by_cluster[c] = (1 - m) * self.by_cluster[c] + m * weight(c)
            return [self.by_cluster[c] for c in clusters]
        new = [weight(c) for c in clusters]
        scale = sum(new) / len(new)
        for i, w in zip(ids, new, strict=True):
            self.by_sample[i] = (1 - m) * self.by_sample[i] + m * w / scale
        return [self.by_sample[i] for i in ids]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("momentum", [0.3, 1.0])
def test_factors_are_the_algorithm_sample_by_sample(variant: Variant, momentum: float) -> None:
    fit = Fit(Given(), ours := ClusterWeights(variant, momentum, beta=0.7))
    loops = Loops(variant, momentum)
    for number in range(20):
        rows = torch.randperm(N, generator=stream(number))[:7]
        heads = ours.head_weight.detach().clone(), ours.head_bias.detach().clone()
        batch = fit.step(rows)
        cluster = batch.signals["cluster"]
        pseudo = own_pseudo_losses(
            batch.features["bottleneck"].detach(), batch.targets, cluster % K, *heads
        )
        assert batch.losses is not None and batch.weights is not None
        expected = loops.step(
            rows.tolist(), cluster.tolist(), batch.losses.tolist(), pseudo.tolist()
        )
        factor = batch.factors["cluster_weights"]
        assert factor.tolist() == pytest.approx(expected, rel=1e-4), number
        assert batch.terms["cluster_weights"].item() == pytest.approx(0.7 * pseudo.mean().item())
        torch.testing.assert_close(batch.weights, factor / factor.mean())


def test_heads_start_as_the_released_ones() -> None:
    Fit(Given(), ours := ClusterWeights())
    assert ours.head_weight.shape == (CLASSES, K, WIDTH)
    limit = math.sqrt(6 / (K + WIDTH))
    assert 0.7 * limit < ours.head_weight.abs().max().item() <= limit
    assert ours.head_bias.eq(0.01).all()
    assert len(ours.head_weight.unique()) == CLASSES * K * WIDTH


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_heads_loss_trains_heads_and_model(variant: Variant) -> None:
    class Alone(Callback):
        """Takes the classifier's own loss away."""

        def on_loss(self, batch: Batch) -> None:
            batch.reweight(self.name, torch.zeros(len(batch)))

    fit = Fit(Given(), ours := ClusterWeights(variant), Alone())
    before = ours.head_weight.detach().clone(), ours.head_bias.detach().clone()
    rows = torch.arange(N)
    batch = fit.step(rows)
    scale = torch.ones(WIDTH, requires_grad=True)
    number = batch.signals["cluster"] % K
    own_pseudo_losses(fit.inputs * scale, fit.targets, number, *before).mean().mul(0.5).backward()
    torch.testing.assert_close(fit.net.scale.grad, scale.grad)
    assert scale.grad is not None and scale.grad.any()
    assert all(p.grad is not None and p.grad.any() for p in ours.parameters())
    assert not fit.net.head.weight.grad.any()  # type: ignore[union-attr]


def remembered(ours: ClusterWeights) -> dict[str, Tensor]:
    """State, without the slot of a memory where rows are written that are not to be kept."""
    return {
        name: value[:-1] if name.endswith(".table") else value
        for name, value in ours.state_dict().items()
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_mixed_rows_keep_their_samples_weight_and_teach_nothing(variant: Variant) -> None:
    def mixed(batch: Batch) -> Tensor:
        return (batch.index < 6) & torch.tensor(batch.step == 4)

    def one(spoiled: bool) -> tuple[ClusterWeights, list[Batch]]:
        fit = Fit(Given(mixed), ours := ClusterWeights(variant))
        batches = [fit.step(torch.arange(12)) for _ in range(4)]
        if spoiled:
            fit.inputs[:6] *= -5
        with torch.no_grad():  # of the step that follows, only what the callback does is of matter
            batch = fit.engine.start_step(torch.arange(12), fit.inputs[:12], fit.targets[:12])
            fit.engine.loss(batch, fit.net(batch.inputs))
        return ours, [*batches, batch]

    (plain, before), (spoiled, after) = one(False), one(True)
    for name, value in remembered(plain).items():
        torch.testing.assert_close(value, remembered(spoiled)[name], equal_nan=True)
    last = [batches[-1].factors["cluster_weights"] for batches in (before, after)]
    torch.testing.assert_close(last[0], last[1])
    assert torch.equal(before[-1].terms["cluster_weights"], after[-1].terms["cluster_weights"])
    earlier = before[-2].factors["cluster_weights"]
    assert (last[0][6:] != earlier[6:]).all()
    if variant == "code":
        assert torch.equal(last[0][:6], earlier[:6])
        new = (last[0][6:] - 0.7 * earlier[6:]) / 0.3  # over the rows that are not mixed
        assert new.mean().item() == pytest.approx(1, rel=1e-4)
    else:
        own = Given().k * plain.head_weight.shape[0]
        assert plain.average.shape == (own,)
        clusters = plain.clusters.values[:6].long()
        assert torch.equal(last[0][:6], plain.average[clusters])


@pytest.mark.parametrize("variant", VARIANTS)
def test_samples_that_were_only_seen_mixed_have_the_weight_1(variant: Variant) -> None:
    fit = Fit(Given(lambda batch: batch.index < 3), ClusterWeights(variant))
    for _ in range(4):
        factor = fit.step(torch.arange(12)).factors["cluster_weights"]
        assert factor[:3].eq(1).all() and factor[3:].ne(1).all()
    every = Fit(Given(lambda batch: torch.ones_like(batch.mixed)), ours := ClusterWeights(variant))
    batch = every.step(torch.arange(12))
    assert batch.factors["cluster_weights"].eq(1).all()
    assert batch.terms["cluster_weights"] == 0 and ours.losses.values.isnan().all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_sample_twice_in_a_batch_has_one_outcome(variant: Variant) -> None:
    once, twice = Fit(Given(), ClusterWeights(variant)), Fit(Given(), ClusterWeights(variant))
    rows = torch.arange(12)
    for _ in range(3):
        a = once.step(rows)
        with torch.no_grad():
            once.net.load_state_dict(twice.net.state_dict())
        b = twice.step(torch.cat([rows, rows]))
        with torch.no_grad():
            once.net.load_state_dict(twice.net.state_dict())
        factors = b.factors["cluster_weights"]
        torch.testing.assert_close(factors[:12], factors[12:])
        torch.testing.assert_close(factors[:12], a.factors["cluster_weights"], rtol=1e-3, atol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_small_clusters_get_the_larger_weights(variant: Variant) -> None:
    class Rare(Given):
        def on_features(self, batch: Batch) -> None:
            batch.publish("cluster", batch.targets * K + (batch.index < 3).long())

    fit = Fit(Rare(), ClusterWeights(variant))
    for _ in range(10):
        batch = fit.step(torch.arange(N))
    factor = batch.factors["cluster_weights"]
    assert factor[:3].min() > 2 * factor[3:].max()
    assert batch.weights is not None
    assert effective_sample_size(batch.weights) < 0.8


def test_one_cluster_a_class_balances_classes() -> None:
    fit = Fit(Given(k=1), ClusterWeights("code", momentum=1.0))
    fit.targets = torch.where(torch.arange(N) < 6, 0, 1)
    factor = fit.step(torch.arange(N)).factors["cluster_weights"]
    assert factor.tolist() == pytest.approx([2.0] * 6 + [2 / 3] * 18)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("per_class", [True, False])
def test_it_reads_online_clusters(variant: Variant, per_class: bool) -> None:
    fit = Fit(OnlineClusters(2, per_class=per_class), ours := ClusterWeights(variant))
    with NoSync():
        for _ in range(20):
            batch = fit.step(torch.arange(N))
    assert ours.n_clusters == 6
    factor = batch.factors["cluster_weights"]
    assert factor.isfinite().all() and len(factor.unique()) > 3


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_resumed_run_goes_on_bit_for_bit(variant: Variant) -> None:
    def go(fit: Fit, first: int, last: int) -> list[Batch]:
        return [
            fit.step(torch.randperm(N, generator=stream(number))[:7])
            for number in range(first, last)
        ]

    expected = go(Fit(Given(), ClusterWeights(variant)), 0, 16)[6:]
    before, after = (Fit(Given(), ClusterWeights(variant)) for _ in range(2))
    go(before, 0, 6)
    file = io.BytesIO()
    torch.save([p.state_dict() for p in (before.engine, before.net, before.optimizer)], file)
    file.seek(0)
    engine, net, optimizer = torch.load(file, weights_only=True)
    after.engine.load_state_dict(engine)
    after.net.load_state_dict(net)
    after.optimizer.load_state_dict(optimizer)
    for one, other in zip(go(after, 6, 16), expected, strict=True):
        assert torch.equal(one.factors["cluster_weights"], other.factors["cluster_weights"])
        assert torch.equal(one.terms["cluster_weights"], other.terms["cluster_weights"])


def test_clusters_that_do_not_divide_among_the_classes_are_refused() -> None:
    class Odd(Given):
        def setup(self, run: Run) -> None:
            run.n_values["cluster"] = 10

    with pytest.raises(ValueError, match="ClusterWeights: the signal 'cluster' has 10 values"):
        Fit(Odd(), ClusterWeights())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClusterWeights("Paper"), "variant is 'Paper', expected 'paper' or 'code'"),  # type: ignore[arg-type]
        (lambda: ClusterWeights(momentum=0.0), "momentum is 0.0, expected 0 < momentum <= 1"),
        (lambda: ClusterWeights(momentum=1.1), "momentum is 1.1, expected 0 < momentum <= 1"),
        (lambda: ClusterWeights(beta=0.0), "beta is 0.0, expected a number above 0"),
    ],
)
def test_arguments_out_of_range_are_refused(make: Callable[[], Callback], message: str) -> None:
    with pytest.raises(ValueError, match=f"ClusterWeights: {message}"):
        make()
