"""Callbacks that say what bias value a row has: oracle, probe, and clusters."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from online_debias.callbacks.scores.oracle_groups import OracleGroups
from online_debias.callbacks.views.bias_probe import BiasProbe
from online_debias.callbacks.views.offline_clusters import OfflineClusters
from online_debias.callbacks.views.online_clusters import OnlineClusters
from online_debias.detectors import conflict
from online_debias.engine import Batch, Callback, Engine
from online_debias.functional.losses.gce import generalized_cross_entropy
from online_debias.functional.metrics import detection
from online_debias.functional.scores.standardize import Moments, follow, standardize
from online_debias.functional.weights import clusters
from online_debias.functional.weights.k_means import k_means
from online_debias.runtime import seeds

torch.set_num_threads(1)
N, CLASSES, WIDTH = 480, 3, 6


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Net(nn.Module):
    """Inputs times a diagonal are the features at the bottleneck."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.head = nn.Parameter(torch.ones(WIDTH)), nn.Linear(WIDTH, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(inputs * self.scale)
        return logits


class Mixes(Callback):
    """Marks the rows that the test chose as mixed."""

    def __init__(self, mixed: Callable[[Batch], Tensor]) -> None:
        super().__init__("mixes")
        self.chosen = mixed

    def on_batch(self, batch: Batch) -> None:
        batch.mixed = batch.mixed | self.chosen(batch)


def data(rho: float = 0.9) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs `[N, D]` that show a bias value far more clearly than the class."""
    source = stream(0)
    targets = torch.arange(N) % CLASSES
    other = (targets + torch.randint(1, CLASSES, (N,), generator=source)) % CLASSES
    bias = torch.where(torch.rand(N, generator=source) < rho, targets, other)
    shown = torch.cat([4 * F.one_hot(bias, 3), 0.3 * F.one_hot(targets, 3)], 1)
    noise = torch.tensor([0.3] * 3 + [1.0] * 3) * torch.randn(N, WIDTH, generator=source)
    return shown + noise, bias, targets


class Fit:
    """An engine, its model and an optimizer, over known inputs."""

    def __init__(
        self, *callbacks: Callback, rho: float = 0.9, n_samples: int = N, lr: float = 0.01
    ) -> None:
        torch.manual_seed(0)
        self.inputs, self.bias, self.targets = data(rho)
        self.net = Net()
        self.engine = Engine(
            self.net, callbacks, n_samples=n_samples, n_classes=CLASSES, bias=self.bias[:n_samples]
        )
        every = [*self.net.parameters(), *self.engine.parameters()]
        self.optimizer = torch.optim.Adam(every, lr, fused=True)

    def step(self, rows: Tensor, learn: bool = True) -> Batch:
        batch = self.engine.start_step(rows, self.inputs[rows], self.targets[rows])
        loss = self.engine.loss(batch, self.net(batch.inputs))
        self.optimizer.zero_grad()
        loss.backward()
        if learn:
            self.optimizer.step()
        self.engine.end_step(batch)
        return batch

    def epoch(self, n_rows: int = N, learn: bool = True) -> list[Batch]:
        order = torch.randperm(n_rows, generator=stream(self.engine.run.epoch)).split(60)
        batches = [self.step(rows, learn) for rows in order]
        self.engine.end_epoch()
        return batches


def published(batches: list[Batch], signal: str) -> Tensor:
    """A signal by sample, `[N]`, -1 where a sample was not in the batches."""
    values = torch.full((N,), -1, dtype=batches[0].signals[signal].dtype)
    for batch in batches:
        values[batch.index] = batch.signals[signal]
    return values


# Oracle.


def test_oracle_publishes_the_annotations() -> None:
    fit = Fit(OracleGroups(), Mixes(lambda batch: batch.index % 4 == 0))
    batch = fit.step(torch.arange(60))
    conflicting = fit.bias[:60] != fit.targets[:60]
    assert torch.equal(batch.signals["bias_label"], fit.bias[:60])
    assert torch.equal(batch.signals["conflict"].bool(), conflicting & (batch.index % 4 != 0))
    assert conflicting[::4].any() and batch.signals["conflict"].dtype == torch.float32
    assert fit.engine.oracle
    assert fit.engine.run.values_of("bias_label") == 3


@pytest.mark.parametrize(
    ("oracle", "signals"),
    [
        (OracleGroups(label_signal=None), {"conflict"}),
        (OracleGroups(signal=None), {"bias_label"}),
        (OracleGroups("colour", "odd"), {"colour", "odd"}),
    ],
)
def test_oracle_publishes_what_is_asked_for(oracle: OracleGroups, signals: set[str]) -> None:
    assert set(Fit(oracle).step(torch.arange(9)).signals) == set(oracle.provides) == signals


def test_oracle_counts_the_bias_values_of_the_data() -> None:
    inputs, _, targets = data()
    bias = torch.arange(N) % 7
    engine = Engine(Net(), [OracleGroups()], n_samples=N, n_classes=CLASSES, bias=bias)
    assert engine.run.values_of("bias_label") == 7
    with pytest.raises(
        ValueError, match="'oracle_groups' reads bias labels, but the data has none"
    ):
        Engine(Net(), [OracleGroups()], n_samples=N, n_classes=CLASSES)
    assert len(inputs) == len(targets) == N


# Moments.


def test_moments_are_those_of_all_rows_each_weighed_by_its_age() -> None:
    moments = Moments(torch.zeros(3), torch.zeros(3), torch.zeros(()))
    rows: list[list[float]] = []
    masses: list[float] = []
    for number in range(6):
        x = torch.randn(5, 3, generator=stream(number)) * (1 + number) + 100
        mass = torch.rand(5, generator=stream(number)) * (torch.arange(5) != 2)
        moments = follow(moments, x, mass, 0.8)
        masses = [0.8 * old for old in masses] + mass.tolist()
        rows += x.tolist()
    for feature in range(3):
        total = sum(masses)
        pairs = list(zip(masses, (row[feature] for row in rows), strict=True))
        mean = sum(m * value for m, value in pairs) / total
        variance = sum(m * (value - mean) ** 2 for m, value in pairs) / total
        assert moments.mean[feature].item() == pytest.approx(mean, rel=1e-5)
        assert (moments.square[feature] / moments.total).item() == pytest.approx(variance, rel=1e-3)
        z = standardize(torch.tensor(rows), moments)[:, feature]
        assert z[4].item() == pytest.approx(
            (rows[4][feature] - mean) / math.sqrt(variance), abs=1e-3
        )


def test_nothing_seen_and_constant_features_are_finite() -> None:
    none = Moments(torch.zeros(2), torch.zeros(2), torch.zeros(()))
    still = follow(none, torch.randn(4, 2), torch.zeros(4), 0.9)
    assert standardize(torch.zeros(4, 2), still).eq(0).all()
    same = follow(none, torch.full((4, 2), 7.0), torch.ones(4), 0.9)
    assert standardize(torch.full((4, 2), 7.0), same).eq(0).all()


# Probe.


@pytest.mark.parametrize("hidden", [0, 16])
def test_probe_finds_conflicting_rows_and_their_bias_value(hidden: int) -> None:
    fit = Fit(BiasProbe("bottleneck", hidden), lr=0.03)
    for _ in range(6):
        last = fit.epoch()
    conflicting = fit.bias != fit.targets
    assert detection(published(last, "conflict"), conflicting)["auroc"] > 0.98
    assert (published(last, "bias_label") == fit.bias).float().mean() > 0.95


def test_probe_publishes_its_head_and_loses_generalised_cross_entropy() -> None:
    probe = BiasProbe("bottleneck", hidden=0, q=0.5)
    fit = Fit(probe)
    fit.epoch()
    fit.epoch()
    rows = torch.arange(60)
    before = [tensor.clone() for tensor in (probe.mean, probe.square, probe.total)]
    batch = fit.step(rows, learn=False)
    features = batch.features["bottleneck"].detach()
    moments = follow(Moments(*before), features, torch.ones(60), 0.9)
    logits = probe.head(standardize(features, moments)).detach()
    torch.testing.assert_close(batch.signals["bias_logits"], logits)
    torch.testing.assert_close(
        batch.terms["bias_probe"].detach(),
        generalized_cross_entropy(logits, fit.targets[rows], 0.5).mean(),
    )
    expected = conflict(logits.softmax(1), fit.targets[rows])
    torch.testing.assert_close(batch.signals["conflict"], expected)
    assert torch.equal(batch.signals["bias_label"], logits.argmax(1))


def test_the_first_ten_steps_agree() -> None:
    fit = Fit(BiasProbe("bottleneck", hidden=0))
    for number in range(11):
        batch = fit.step(torch.arange(number, number + 60))
        agrees = torch.equal(batch.signals["bias_label"], batch.targets)
        assert agrees == (not batch.signals["conflict"].any()) == (number < 10), number
        assert all(batch.known[name].any() == (number >= 10) for name in ("bias_label", "conflict"))


def test_probe_teaches_the_model_nothing() -> None:
    class Alone(Callback):
        """Takes the classifier's own loss away."""

        def on_loss(self, batch: Batch) -> None:
            batch.reweight(self.name, torch.zeros(len(batch)))

    probe = BiasProbe("bottleneck")
    fit = Fit(probe, Alone())
    fit.step(torch.arange(60), learn=False)
    assert all(p.grad is None or not p.grad.any() for p in fit.net.parameters())
    assert all(p.grad is not None and p.grad.any() for p in probe.parameters())


def test_mixed_rows_agree_and_teach_the_probe_nothing() -> None:
    def one(spoiled: bool) -> tuple[BiasProbe, Batch]:
        probe = BiasProbe("bottleneck", hidden=0)
        fit = Fit(probe, Mixes(lambda batch: batch.index < 20))
        fit.net.scale.requires_grad_(False)
        if spoiled:
            fit.inputs[:20] = 1e3
        for _ in range(12):
            batch = fit.step(torch.arange(60))
        return probe, batch

    def learned(probe: BiasProbe) -> list[Tensor]:
        return [*probe.state_dict().values()]

    (plain, _), (spoiled, batch) = one(False), one(True)
    torch.testing.assert_close(learned(plain), learned(spoiled))
    assert not batch.signals["conflict"][:20].any() and batch.signals["conflict"][20:].any()
    assert torch.equal(batch.signals["bias_label"][:20], batch.targets[:20])


def test_a_batch_of_mixed_rows_leaves_the_probe_finite() -> None:
    probe = BiasProbe("bottleneck")
    fit = Fit(probe, Mixes(lambda batch: torch.ones_like(batch.mixed)))
    before = [p.clone() for p in probe.parameters()]
    assert fit.step(torch.arange(60), learn=False).terms["bias_probe"] == 0
    assert all(p.grad is not None and not p.grad.any() for p in probe.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, probe.parameters(), strict=True))


def test_rows_that_are_drawn_often_teach_the_probe_less() -> None:
    probe = BiasProbe("bottleneck", hidden=0)
    fit = Fit(probe)
    fit.engine.run.tables["by hand"] = torch.where(torch.arange(N) < N // 2, 3.0, 1.0)
    fit.engine.sampling.indices()
    rows = torch.arange(N // 2 - 30, N // 2 + 30)
    batch = fit.step(rows, learn=False)
    mass = torch.tensor([1 / 1.5] * 30 + [2.0] * 30)
    losses = generalized_cross_entropy(batch.signals["bias_logits"], batch.targets)
    expected = (mass * losses).sum() / mass.sum()
    torch.testing.assert_close(batch.terms["bias_probe"].detach(), expected)
    assert probe.total.item() == pytest.approx(mass.sum().item())


# Clusters: the pure functions.


def cosine(u: list[float], v: list[float]) -> float:
    length = math.hypot(*u) * math.hypot(*v)
    return sum(a * b for a, b in zip(u, v, strict=True)) / length if length else 0.0


def clustered(seed: int, n: int = 40) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Unit rows, their groups, sums and masses; group 3 lives not, group 1 in part."""
    source = stream(seed)
    unit = F.normalize(torch.randn(n, 5, generator=source), dim=1)
    group = torch.randint(4, (n,), generator=source)
    sums = torch.randn(4, 3, 5, generator=source) * 6
    mass = torch.rand(4, 3, generator=source) * 20 + 1
    mass[3], mass[1, 0] = 0.2, 0.49
    return unit, group, sums, mass


def test_assignment_is_the_largest_cosine_in_the_group() -> None:
    for seed in range(5):
        unit, group, sums, mass = clustered(seed)
        cluster, similarity = clusters.assign(unit, group, sums, mass)
        for row, own in enumerate(group.tolist()):
            living = [j for j in range(3) if mass[own, j] >= 0.5]
            to = {j: cosine(unit[row].tolist(), sums[own, j].tolist()) for j in living}
            best = max(to.values(), default=-2.0)
            assert to.get(int(cluster[row]), -2.0 - int(cluster[row])) == best
            assert similarity[row].item() == pytest.approx(best, abs=1e-5)


def test_update_is_the_formula_group_by_group() -> None:
    for seed in range(5):
        unit, group, sums, mass = clustered(seed)
        unit, group = unit[group != 2], group[group != 2]  # a group that gets no row
        cluster, _ = clusters.assign(unit, group, sums, mass)
        weight = torch.rand(len(unit), generator=stream(seed)) * 2
        weight[::5] = 0
        new_sums, new_mass = clusters.update(sums, mass, unit, group, cluster, weight, 0.95)
        for g in range(4):
            rows = [i for i in range(len(unit)) if group[i] == g and g != 3]
            kept = 0.95 ** (sum(weight[i].item() for i in rows) / 3)
            for j in range(3):
                own = [i for i in rows if cluster[i] == j]
                expected = kept * mass[g, j].item() + sum(weight[i].item() for i in own)
                assert new_mass[g, j].item() == pytest.approx(expected, rel=1e-5)
                total = kept * sums[g, j]
                for i in own:
                    total = total + weight[i] * unit[i]
                torch.testing.assert_close(new_sums[g, j], total)
        assert torch.equal(new_sums[2:], sums[2:]) and torch.equal(new_mass[2:], mass[2:])


def test_a_centroid_remembers_as_many_rows_however_they_come() -> None:
    source = stream(0)
    unit = F.normalize(torch.randn(1200, 5, generator=source), dim=1)
    ends = []
    for size in (1, 6, 24):
        sums, mass = torch.eye(5)[:3].clone()[None], torch.ones(1, 3)
        for rows in unit.split(size):
            group = torch.zeros(len(rows), dtype=torch.long)
            cluster, _ = clusters.assign(rows, group, sums, mass)
            one = torch.ones(len(rows))
            sums, mass = clusters.update(sums, mass, rows, group, cluster, one, 0.98)
        ends.append(mass.mean().item())
    assert ends == pytest.approx([50, 50, 50], rel=0.1)


def test_seeding_places_one_dead_cluster_a_group_at_a_row_of_the_group() -> None:
    for seed in range(10):
        unit, group, sums, mass = clustered(seed)
        _, similarity = clusters.assign(unit, group, sums, mass)
        weight = (torch.arange(len(unit)) % 3 > 0).float()
        new_sums, new_mass = clusters.seed(
            sums, mass, unit, group, similarity, weight, stream(seed)
        )
        placed = (new_mass != mass).nonzero().tolist()
        assert placed == [[1, 0], [3, 0]]
        untouched = new_mass == mass
        assert torch.equal(new_sums[untouched], sums[untouched])
        for g, j in placed:
            assert new_mass[g, j] == 1
            chosen = int((unit == new_sums[g, j]).all(1).nonzero())
            assert group[chosen] == g and weight[chosen] > 0


def test_seeds_are_drawn_by_weight_and_squared_distance() -> None:
    unit = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]])
    weight, group = torch.tensor([1.0, 1.0, 0.5, 0.0]), torch.zeros(4, dtype=torch.long)
    sums, mass = torch.tensor([[[5.0, 0.0], [0.0, 0.0]]]), torch.tensor([[5.0, 0.0]])
    _, similarity = clusters.assign(unit, group, sums, mass)
    source, drawn = stream(0), torch.zeros(4)
    for _ in range(3000):
        new, _ = clusters.seed(sums, mass, unit, group, similarity, weight, source)
        drawn += (unit == new[0, 1]).all(1)
    # Chances 1 * 0, 1 * .4, .5 * 1 and 0 * 2.
    assert drawn[[0, 3]].eq(0).all()
    assert (drawn[1] / 3000).item() == pytest.approx(0.4 / 0.9, abs=0.03)


def test_no_cluster_is_placed_without_a_row_to_place_it_at() -> None:
    unit, group = torch.eye(2), torch.tensor([0, 0])
    sums, mass = torch.zeros(2, 2, 2), torch.zeros(2, 2)
    sums[0, :1], mass[0, :1] = torch.tensor([1.0, 0.0]), 1.0
    for weight, rows in ((torch.zeros(2), unit), (torch.ones(2), unit[[0, 0]])):
        _, similarity = clusters.assign(rows, group, sums, mass)
        _, new = clusters.seed(sums, mass, rows, group, similarity, weight, stream(0))
        assert torch.equal(new, mass)


# Online clusters.


def purity(cluster: Tensor, bias: Tensor) -> float:
    """Share of the rows that have their cluster's commonest bias value."""
    found = [bias[cluster == number].bincount().max() for number in cluster.unique()]
    return float(sum(found)) / len(bias)


@pytest.mark.parametrize("per_class", [True, False])
def test_online_clusters_are_pure_in_the_bias(per_class: bool) -> None:
    fit = Fit(OnlineClusters(4, per_class=per_class), rho=0.6)
    for _ in range(4):
        last = fit.epoch()
    cluster, group = published(last, "cluster"), published(last, "bias_label")
    assert torch.equal(cluster, fit.targets * 4 + group)
    assert purity(cluster, fit.bias) > 0.97
    assert (purity(group, fit.bias) > 0.97) == (not per_class)
    assert fit.engine.run.values_of("cluster") == 12
    assert fit.engine.run.values_of("bias_label") == 4


def test_clusters_are_placed_one_a_step_and_all_of_them() -> None:
    one = OnlineClusters(4)
    fit = Fit(one)
    for number in range(6):
        batch = fit.step(torch.arange(60 * number, 60 * number + 60))
        assert batch.signals["bias_label"].max() <= max(0, number - 1)
        assert clusters.alive(one.mass).sum(1).tolist() == [min(number + 1, 4)] * 3


def test_rows_move_centroids_after_they_were_assigned() -> None:
    one = OnlineClusters(3, momentum=0.9)
    fit = Fit(one)
    fit.epoch()
    sums, mass = one.sums.clone(), one.mass.clone()
    batch = fit.step(torch.arange(60))
    unit = F.normalize(batch.features["bottleneck"].detach(), dim=1)
    cluster, _ = clusters.assign(unit, batch.targets, sums, mass)
    assert torch.equal(batch.signals["bias_label"], cluster)
    expected = clusters.update(sums, mass, unit, batch.targets, cluster, torch.ones(60), 0.9)
    assert clusters.alive(expected[1]).all()
    assert torch.equal(one.sums, expected[0]) and torch.equal(one.mass, expected[1])


def test_a_cluster_that_its_rows_left_is_placed_anew() -> None:
    one = OnlineClusters(2)
    fit = Fit(one)
    fit.epoch()
    one.mass[0, 1] = 0.4
    fit.step(torch.arange(60))
    assert one.mass[0, 1] == 1 and one.mass[0, 0] > 1


def test_mixed_rows_are_assigned_but_move_no_centroid() -> None:
    def one(spoiled: bool) -> tuple[OnlineClusters, Batch]:
        online = OnlineClusters(3)
        fit = Fit(online, Mixes(lambda batch: batch.index < 20))
        if spoiled:
            fit.inputs[:20] = -fit.inputs[:20]
        for _ in range(8):
            batch = fit.step(torch.arange(60), learn=False)
        return online, batch

    (plain, before), (spoiled, after) = one(False), one(True)
    assert torch.equal(plain.sums, spoiled.sums) and torch.equal(plain.mass, spoiled.mass)
    assert plain.mass.any()
    groups = [batch.signals["bias_label"] for batch in (before, after)]
    assert torch.equal(groups[0][20:], groups[1][20:])
    assert (groups[0][:20] != groups[1][:20]).any()


def test_rows_that_are_drawn_often_move_centroids_less() -> None:
    online = OnlineClusters(1)
    fit = Fit(online)
    fit.engine.run.tables["by hand"] = torch.where(torch.arange(N) < N // 2, 3.0, 1.0)
    fit.engine.sampling.indices()
    fit.step(torch.arange(N // 2 - 30, N // 2 + 30))  # places
    assert online.mass.eq(1).all()
    fit.step(torch.arange(N // 2 - 30, N // 2 + 30))
    shown = 10 / 1.5 + 10 * 2
    assert online.mass.flatten().tolist() == pytest.approx([0.99**shown + shown] * 3)


# Offline clusters.


def test_k_means_finds_directions_and_gives_no_more_than_there_are() -> None:
    centres = F.normalize(torch.randn(4, 8, generator=stream(0)), dim=1)
    own = torch.arange(200) % 4
    unit = F.normalize(centres[own] + 0.02 * torch.randn(200, 8, generator=stream(1)), dim=1)
    found = F.normalize(k_means(unit, 4, 1, seed=3)[0], dim=1)
    assert (found @ centres.T).amax(0).min() > 0.99
    assert torch.equal(found, F.normalize(k_means(unit, 4, 1, seed=3)[0], dim=1))
    assert len(k_means(unit[[0, 0, 1]], 4, 1, seed=0)[0]) == 2
    assert len(k_means(unit[:0], 4, 1, seed=0)[0]) == 0


def write(path: Path, array: Any) -> str:
    np.save(path, array)
    return str(path)


@pytest.mark.parametrize("from_file", [False, True])
def test_offline_clusters_are_kmeans_of_each_class(from_file: bool, tmp_path: Path) -> None:
    inputs, bias, targets = data(0.6)
    path = write(tmp_path / "features.npy", inputs.numpy()) if from_file else None
    fit = Fit(OfflineClusters(3, path), rho=0.6, lr=0.0)
    first = fit.epoch()
    assert torch.equal(published(first, "cluster"), 3 * targets)
    assert not published(first, "bias_label").any()
    fit.inputs = fit.inputs.flip(0)  # what features do later is of no matter
    second = fit.epoch()
    cluster, group = published(second, "cluster"), published(second, "bias_label")
    assert torch.equal(cluster, 3 * targets + group)
    unit = F.normalize(inputs, dim=1)
    for target in range(CLASSES):
        rows = targets == target
        seed = seeds.derive(0, "offline_clusters", target)
        centroids = F.normalize(k_means(unit[rows], 3, 1, seed)[0], dim=1)
        assert torch.equal(group[rows], (unit[rows] @ centroids.T).argmax(1))
    assert purity(cluster, bias) > 0.95
    assert torch.equal(published(fit.epoch(), "cluster"), cluster)
    assert fit.engine.run.values_of("cluster") == 9 and fit.engine.run.values_of("bias_label") == 3


def test_offline_clusters_wait_for_the_end_of_the_warm_up() -> None:
    fit = Fit(OfflineClusters(3, warmup=2))
    assert not any(published(fit.epoch(), "bias_label").any() for _ in range(2))
    assert published(fit.epoch(), "bias_label").any()


@pytest.mark.parametrize("from_file", [False, True])
def test_a_sample_not_seen_in_time_goes_to_its_nearest_centroid(
    from_file: bool, tmp_path: Path
) -> None:
    inputs = data()[0]
    path = write(tmp_path / "features.npy", inputs.numpy()) if from_file else None
    offline = OfflineClusters(3, path)
    fit = Fit(offline, lr=0.0)
    fit.epoch(n_rows=300)
    assert offline.assigned.values.isnan().sum() == N - 300
    group = published(fit.epoch(), "bias_label")[300:]
    unit = F.normalize(inputs, dim=1)[300:]
    nearest, _ = clusters.assign(unit, fit.targets[300:], offline.sums, offline.mass)
    assert torch.equal(group, nearest) and group.any()
    fit.inputs = -fit.inputs
    assert torch.equal(published(fit.epoch(), "bias_label")[300:], group)


def test_mixed_rows_are_neither_clustered_nor_kept() -> None:
    def mixed(batch: Batch) -> Tensor:
        return (batch.index < 20) & torch.tensor(batch.epoch < 2)

    offline = OfflineClusters(2)
    fit = Fit(offline, Mixes(mixed), lr=0.0)
    fit.inputs[:20] = 50 * torch.eye(WIDTH)[5]
    fit.epoch()
    assert offline.targets[:20].eq(-1).all() and offline.targets[20:-1].ge(0).all()
    fit.epoch()
    assert offline.assigned.values[:20].isnan().all()
    fit.epoch()
    assert not offline.assigned.values.isnan().any()


def test_a_class_without_rows_stays_in_cluster_0() -> None:
    fit = Fit(OfflineClusters(3), lr=0.0)
    for rows in (fit.targets != 2).nonzero().squeeze(1).split(60):
        fit.step(rows)
    fit.engine.end_epoch()
    batch = fit.step(torch.arange(60))
    assert not batch.signals["bias_label"][batch.targets == 2].any()
    assert batch.signals["bias_label"][batch.targets < 2].any()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((N - 1, 4)), r"shape \(480, D\).*, but its shape is \(479, 4\)"),
        (np.zeros(N), r"but its shape is \(480,\)"),
        (np.zeros((N, 0)), r"but its shape is \(480, 0\)"),
        (np.full((N, 2), np.nan), "all finite"),
        (np.full((N, 2), "a"), "of numbers"),
        (np.array([{}] * N), "Object arrays cannot be loaded"),
        (b"no array", r"\(.*pickle"),
        (b"", r"\(No data left in file"),
        (None, r"\(there is no such file\)"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(array: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "features.npy"
    if isinstance(array, bytes):
        path.write_bytes(array)
    elif array is not None:
        np.save(path, array)
    with pytest.raises(ValueError, match=f"OfflineClusters: features is .*{message}") as raised:
        Fit(OfflineClusters(features=str(path)))
    assert "\n" not in str(raised.value)


# All of them.

VIEWS: list[Callable[[], Callback]] = [
    OracleGroups,
    lambda: BiasProbe("bottleneck", hidden=8),
    lambda: OnlineClusters(3),
    lambda: OnlineClusters(3, per_class=False),
    lambda: OfflineClusters(3),
]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("stop", [3, 11, 16, 20])
def test_a_resumed_run_goes_on_bit_for_bit(view: Callable[[], Callback], stop: int) -> None:
    def go(fit: Fit, first: int, last: int) -> list[Batch]:
        batches = []
        for number in range(first, last):
            rows = torch.randperm(N, generator=stream(number))[:60]
            batches.append(fit.step(rows))
            if number % 8 == 7:
                fit.engine.end_epoch()
        return batches

    whole = Fit(view())
    expected = go(whole, 0, 26)[stop:]
    before, after = Fit(view()), Fit(view())
    go(before, 0, stop)
    file = io.BytesIO()
    states = [part.state_dict() for part in (before.engine, before.net, before.optimizer)]
    torch.save(states, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    for part, state in zip((after.engine, after.net, after.optimizer), loaded, strict=True):
        part.load_state_dict(state)  # type: ignore[attr-defined]
    for one, other in zip(go(after, stop, 26), expected, strict=True):
        for signal, value in other.signals.items():
            assert torch.equal(one.signals[signal], value), (signal, one.step)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OracleGroups(None, None), "OracleGroups: label_signal and signal are None"),
        (lambda: BiasProbe(hidden=-1), "BiasProbe: hidden is -1, expected a whole number >= 0"),
        (lambda: BiasProbe(q=0.0), "BiasProbe: q is 0.0, expected 0 < q <= 1"),
        (lambda: OnlineClusters(0), "OnlineClusters: n_clusters is 0, expected at least 1"),
        (
            lambda: OnlineClusters(momentum=1.0),
            "OnlineClusters: momentum is 1.0, expected 0 <= momentum < 1",
        ),
        (lambda: OfflineClusters(0), "OfflineClusters: n_clusters is 0, expected at least 1"),
        (lambda: OfflineClusters(warmup=0), "OfflineClusters: warmup is 0, expected at least 1"),
    ],
)
def test_arguments_out_of_range_are_refused(make: Callable[[], Callback], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("view", "signals"),
    [
        (BiasProbe(signal=None), {"bias_logits", "bias_label"}),
        (BiasProbe(label_signal=None, logits_signal="own"), {"own", "conflict"}),
        (OnlineClusters(label_signal=None), {"cluster"}),
        (OnlineClusters(signal="a", label_signal="b"), {"a", "b"}),
        (OfflineClusters(label_signal=None), {"cluster"}),
        (OfflineClusters(signal="a", label_signal="b"), {"a", "b"}),
    ],
)
def test_what_is_named_is_published(view: Callback, signals: set[str]) -> None:
    if isinstance(view, BiasProbe):
        view.tap, view.taps = "bottleneck", ("bottleneck",)
    assert set(Fit(view).step(torch.arange(9)).signals) == set(view.provides) == signals
