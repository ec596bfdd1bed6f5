"""Callbacks that change the logits the criterion sees: their maths, and who learns from it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from online_debias.callbacks.logits.hex import HEX
from online_debias.callbacks.logits.learned_mixin import LearnedMixin
from online_debias.callbacks.logits.logit_correction import LogitCorrection
from online_debias.callbacks.logits.rubi import RUBi
from online_debias.engine import Batch, Callback, Engine
from online_debias.functional.logits.glcm import co_occurrence
from online_debias.functional.logits.learned_mixin import mixin, softmax_entropy
from online_debias.functional.logits.logit_correction import correction, joint_mass
from online_debias.functional.logits.projection import project_out

N, CLASSES = 40, 3


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


IMAGES = torch.rand(N, 3, 4, 5, generator=stream(0)) - 0.5
TARGETS = torch.arange(N) % CLASSES
BIAS_LOGITS = 2 * torch.randn(N, CLASSES, generator=stream(1))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(60, 6), nn.Tanh())
        self.head = nn.Linear(6, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(images))
        return logits


class Biased(Callback):
    """Publishes logits of its own, which could learn if anybody let them."""

    provides = ("bias_logits",)

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(BIAS_LOGITS.clone())

    def on_features(self, batch: Batch) -> None:
        batch.publish("bias_logits", self.table[batch.index])


class Mixes(Callback):
    """Marks the rows that the test chose."""

    def __init__(self, rows: list[int]) -> None:
        super().__init__()
        self.rows = rows

    def on_batch(self, batch: Batch) -> None:
        rows = torch.tensor(self.rows, dtype=torch.long)
        batch.mixed = batch.mixed.index_fill(0, rows, True)


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


def gradients(loss: Tensor, *modules: nn.Module) -> list[Tensor | None]:
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return list(torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True))


def assert_same_gradients(loss: Tensor, expected: Tensor, *modules: nn.Module) -> None:
    pairs = zip(gradients(loss, *modules), gradients(expected, *modules), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs)


def assert_unused(loss: Tensor, module: nn.Module) -> None:
    found = gradients(loss, module)
    assert all(gradient is None or not gradient.any() for gradient in found)


# LogitCorrection.


def joint_loops(belief: Tensor, targets: Tensor, mass: Tensor) -> list[list[float]]:
    table = [[0.0] * belief.shape[1] for _ in range(belief.shape[1])]
    for row, target, m in zip(belief.tolist(), targets.tolist(), mass.tolist(), strict=True):
        for value, probability in enumerate(row):
            table[value][target] += m * probability
    return table


def correction_loops(belief: Tensor, joint: Tensor, smoothing: float) -> list[list[float]]:
    n, total = len(joint), joint.sum().item()
    cells = [
        [(1 - smoothing) * m / total + smoothing / n**2 for m in row] for row in joint.tolist()
    ]
    found = []
    for row in belief.tolist():
        of_class = [
            sum(row[value] * cells[value][c] / sum(cells[value]) for value in range(n))
            for c in range(n)
        ]
        found.append([math.log(p) for p in of_class])
    return found


def test_correction_is_the_formula_row_by_row() -> None:
    belief = torch.randn(12, 4, generator=stream(0), dtype=torch.float64).softmax(1)
    targets = torch.randint(4, (12,), generator=stream(1))
    mass = torch.rand(12, generator=stream(2), dtype=torch.float64)
    mass[2] = 0
    joint = joint_mass(belief, targets, mass)
    expected = torch.tensor(joint_loops(belief, targets, mass), dtype=torch.float64)
    torch.testing.assert_close(joint, expected)
    for smoothing in (0.3, 1e-3):
        actual = correction(belief, joint, smoothing)
        for ours, theirs in zip(
            actual.tolist(), correction_loops(belief, joint, smoothing), strict=True
        ):
            assert ours == pytest.approx(theirs, rel=1e-9)


def test_correction_turns_the_balanced_posterior_into_the_biased_one() -> None:
    """What a corrected model has to fit is p(y | shape, bias); its own logits are p(y | shape)."""
    likelihood = torch.rand(3, 5, generator=stream(0), dtype=torch.float64)
    likelihood = likelihood / likelihood.sum(1, keepdim=True)  # p(shape | class)
    joint = torch.rand(3, 3, generator=stream(1), dtype=torch.float64) + 3 * torch.eye(3)
    joint = joint / joint.sum()  # p(bias, class)
    for bias in range(3):
        hard = F.one_hot(torch.tensor([bias]), 3).double()
        shift = correction(hard, joint, smoothing=1e-12)
        for shape in range(5):
            seen = joint[bias] * likelihood[:, shape]
            biased = seen / seen.sum()
            balanced = likelihood[:, shape] / likelihood[:, shape].sum()
            torch.testing.assert_close((balanced.log() + shift[0]).softmax(0), biased)


def test_nothing_known_is_no_correction_and_smoothing_bounds_it() -> None:
    belief = torch.eye(3)
    even = correction(belief, torch.zeros(3, 3), smoothing=0.01)
    torch.testing.assert_close(even, torch.full((3, 3), 1 / 3).log())
    joint = torch.zeros(3, 3)
    joint[0, 1] = 5.0
    once = correction(belief, joint, smoothing=0.01)
    assert (once[0].exp() > 0.99).tolist() == [False, True, False]
    assert once.min() > math.log(0.01 / 9)
    torch.testing.assert_close(once[1:], even[1:])  # bias values that were never seen


@pytest.mark.parametrize("belief", ["soft", "hard"])
def test_logits_are_corrected_by_what_earlier_batches_told(belief: str) -> None:
    lc = LogitCorrection(0.8, 0.6, belief, 0.05)  # type: ignore[arg-type]
    world = World(Biased(), lc, Mixes([1, 2]))
    world.engine.run.tables["by hand"] = torch.where(torch.arange(N) < N // 2, 3.0, 1.0)
    world.engine.sampling.indices()
    average = torch.zeros(3, 3)
    for step, rows in enumerate(torch.randperm(N, generator=stream(2)).split(10)):
        batch, loss = world.step(rows)
        seen = BIAS_LOGITS[rows].softmax(1)
        if belief == "hard":
            seen = F.one_hot(seen.argmax(1), 3).float()
        expected = correction(seen, average, 0.05) * 0.8
        torch.testing.assert_close(batch.shifts["logit_correction"], expected)
        assert bool(expected.std() > 0.1) is (step > 0)
        logits = world.model(IMAGES[rows])
        torch.testing.assert_close(loss, F.cross_entropy(logits + expected, TARGETS[rows]))
        mass = torch.where(rows < N // 2, 1 / 1.5, 1 / 0.5)
        mass[1:3] = 0
        share = torch.tensor(joint_loops(seen, TARGETS[rows], mass))
        average = 0.6 * average + 0.4 * share / share.sum()
        torch.testing.assert_close(lc.joint, average)


def test_a_batch_of_mixed_rows_is_corrected_and_passed_over() -> None:
    lc, mixes = LogitCorrection(), Mixes([])
    world = World(Biased(), lc, mixes)
    world.step(torch.arange(10))
    before = lc.joint.clone()
    mixes.rows = list(range(10))
    batch, loss = world.step(torch.arange(10, 20))
    torch.testing.assert_close(lc.joint, before, rtol=0, atol=0)
    assert batch.shifts["logit_correction"].std() > 0.1 and loss.isfinite()


def test_correction_has_no_gradient_of_its_own() -> None:
    biased = Biased()
    world = World(biased, LogitCorrection())
    world.step(torch.arange(10))
    batch, loss = world.step(torch.arange(10, 20))
    shift = batch.shifts["logit_correction"]
    assert not shift.requires_grad
    logits = world.model(IMAGES[10:20])
    assert_same_gradients(loss, F.cross_entropy(logits + shift, TARGETS[10:20]), world.model)
    assert_unused(loss, biased)


# RUBi.


def test_rubi_masks_the_logits_and_the_gradient() -> None:
    biased = Biased()
    world = World(biased, RUBi())
    rows = torch.arange(12)
    batch, loss = world.step(rows)
    logits = world.model(IMAGES[rows])
    expected = 0.0
    for z, b, y in zip(
        logits.tolist(), BIAS_LOGITS[rows].tolist(), TARGETS[rows].tolist(), strict=True
    ):
        masked = [u / (1 + math.exp(-v)) for u, v in zip(z, b, strict=True)]
        expected += math.log(sum(map(math.exp, masked))) - masked[y]
    assert loss.item() == pytest.approx(expected / 12, rel=1e-5)
    masked_logits = logits * BIAS_LOGITS[rows].sigmoid()
    assert_same_gradients(loss, F.cross_entropy(masked_logits, TARGETS[rows]), world.model)
    assert_unused(loss, biased)
    assert batch.logits is not None
    torch.testing.assert_close(batch.logits, logits)  # the model's own stay as they are


# LearnedMixin.


def test_mixin_and_entropy_are_the_formulas_row_by_row() -> None:
    gate = 3 * torch.randn(7, generator=stream(0), dtype=torch.float64)
    logits = 2 * torch.randn(7, 4, generator=stream(1), dtype=torch.float64)
    mixed, spread = mixin(gate, logits), softmax_entropy(logits)
    for row, (g, b) in enumerate(zip(gate.tolist(), logits.tolist(), strict=True)):
        p = [math.exp(value) / sum(map(math.exp, b)) for value in b]
        trust = math.log(1 + math.exp(g))
        assert mixed[row].tolist() == pytest.approx([trust * math.log(q) for q in p], rel=1e-9)
        expected = -sum(q * math.log(q) for q in p)
        assert spread[row].item() == pytest.approx(expected, rel=1e-9)


def test_entropy_is_finite_where_a_class_is_impossible() -> None:
    logits = torch.tensor([[1e4, -1e4], [0.0, 0.0]], requires_grad=True)
    value = softmax_entropy(logits)
    value.sum().backward()
    assert value.tolist() == pytest.approx([0, math.log(2)])
    assert logits.grad is not None and logits.grad.isfinite().all()


@pytest.mark.parametrize("entropy", [0.0, 0.36])
def test_learned_mixin_trains_features_and_gate_but_not_the_biased_view(entropy: float) -> None:
    biased, mixin_ = Biased(), LearnedMixin(entropy)
    world = World(biased, mixin_)
    rows = torch.arange(12)
    batch, loss = world.step(rows)
    z = world.model.body(IMAGES[rows])
    part = F.softplus(mixin_.gate(z)) * BIAS_LOGITS[rows].log_softmax(1)
    expected = F.cross_entropy(world.model.head(z) + part, TARGETS[rows])
    spread = -(part.softmax(1) * part.log_softmax(1)).sum(1).mean()
    if entropy:
        torch.testing.assert_close(batch.terms["learned_mixin"], entropy * spread)
        assert_unused(batch.terms["learned_mixin"], world.model.head)
    else:
        assert not batch.terms
    expected = expected + entropy * spread
    torch.testing.assert_close(loss, expected)
    assert_same_gradients(loss, expected, world.model, mixin_)
    assert all(gradient is not None for gradient in gradients(loss, mixin_))
    assert_unused(loss, biased)


def test_mixed_rows_are_shifted_but_teach_the_gate_nothing() -> None:
    mixin_, mixes = LearnedMixin(0.5), Mixes([0, 1, 2, 3])
    world = World(Biased(), mixin_, mixes)
    rows = torch.arange(12)
    batch, loss = world.step(rows)
    z = world.model.body(IMAGES[rows])
    part = F.softplus(mixin_.gate(z)) * BIAS_LOGITS[rows].log_softmax(1)
    torch.testing.assert_close(batch.shifts["learned_mixin"], part)
    losses = F.cross_entropy(world.model.head(z) + part, TARGETS[rows], reduction="none")
    spread = softmax_entropy(part)[4:].mean()
    torch.testing.assert_close(batch.terms["learned_mixin"], 0.5 * spread)
    assert_same_gradients(loss, losses[4:].sum() / 12 + 0.5 * spread, mixin_)
    mixes.rows = list(range(12))
    batch, loss = world.step(rows)
    assert batch.terms["learned_mixin"] == 0
    assert_unused(loss, mixin_)


# HEX.


def co_occurrence_loops(image: Tensor, levels: int) -> list[list[list[float]]]:
    """Count both orders of every pair of neighbours."""
    channels, height, width = image.shape
    gray = [
        [sum(image[c, y, x].item() for c in range(channels)) / channels for x in range(width)]
        for y in range(height)
    ]
    level = [[min(levels - 1, max(0, int((g + 0.5) * levels))) for g in row] for row in gray]
    found = []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        table = [[0.0] * levels for _ in range(levels)]
        n = 0
        for y in range(height):
            for x in range(width):
                if y + down < height and 0 <= x + right < width:
                    a, b = level[y][x], level[y + down][x + right]
                    table[a][b] += 1
                    table[b][a] += 1
                    n += 2
        found.append([[count / n for count in row] for row in table])
    return found


@pytest.mark.parametrize("levels", [2, 5, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_co_occurrence_counts_pairs_of_neighbours(levels: int, channels: int) -> None:
    images = torch.rand(4, channels, 5, 7, generator=stream(levels)) * 1.2 - 0.6  # some outside
    images[0, :, 0] = 0.5
    actual = co_occurrence(images, levels)
    assert actual.shape == (4, 4, levels, levels)
    for image, tables in zip(images, actual, strict=True):
        expected = torch.tensor(co_occurrence_loops(image, levels))
        torch.testing.assert_close(tables, expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(actual.sum((2, 3)), torch.ones(4, 4))


def test_co_occurrence_knows_texture_but_no_place() -> None:
    mark = torch.rand(1, 3, 3, 3, generator=stream(0)) - 0.5
    here, there = (
        F.pad(mark, (left, 7 - left, top, 7 - top), value=-0.5) for left, top in ((1, 1), (5, 4))
    )
    torch.testing.assert_close(co_occurrence(here, 8), co_occurrence(there, 8))
    assert (co_occurrence(here, 8) - co_occurrence(here.flip(1) * 0, 8)).abs().sum() > 1


def test_projection_leaves_what_is_orthogonal() -> None:
    value, other = (
        torch.randn(2, 20, 4, generator=stream(0), dtype=torch.float64).requires_grad_().unbind()
    )
    left = project_out(value, other, ridge=1e-12)
    assert (other.T @ left).abs().max() < 1e-9
    q, _ = torch.linalg.qr(other)
    torch.testing.assert_close(left, value - q @ (q.T @ value))
    torch.testing.assert_close(project_out(left, other, 1e-12), left)
    torch.testing.assert_close(project_out(other, other, 1e-12), torch.zeros_like(other))


def test_projection_in_single_precision_takes_columns_that_are_alike() -> None:
    value = torch.randn(30, 4, generator=stream(0))
    other = torch.randn(30, 4, generator=stream(1))
    cosine = F.normalize(other, dim=0).T @ F.normalize(project_out(value, other), dim=0)
    assert cosine.abs().max() < 1e-4
    other = other[:, :1].repeat(1, 4).requires_grad_()
    left = project_out(value, other)
    left.square().sum().backward()
    assert left.isfinite().all() and other.grad is not None and other.grad.isfinite().all()
    assert (F.normalize(other, dim=0).T @ F.normalize(left, dim=0)).abs().max() < 1e-3
    torch.testing.assert_close(project_out(value, torch.zeros(30, 4)), value)


def test_hex_shows_the_criterion_what_texture_cannot_predict() -> None:
    hex_ = HEX(levels=4, width=8)
    world = World(hex_)
    rows = torch.arange(30)
    batch, loss = world.step(rows)
    assert batch.logits is not None
    logits = world.model(IMAGES[rows])
    torch.testing.assert_close(batch.logits, logits)
    g = hex_.branch(co_occurrence(IMAGES[rows], 4).flatten(1))
    texture = g @ hex_.head.weight.T + hex_.head.bias
    both = logits + g @ hex_.head.weight.T
    expected = F.cross_entropy(project_out(both, texture), TARGETS[rows])
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(
        gradients(loss, world.model, hex_), gradients(expected, world.model, hex_), strict=True
    ):
        assert ours is not None and theirs is not None
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-5)
    seen = (batch.logits + batch.shifts["hex"]).detach()
    cosine = F.normalize(seen, dim=0).T @ F.normalize(texture.detach(), dim=0)
    assert cosine.abs().max() < 1e-2
    assert seen.square().sum() < batch.logits.square().sum()


# All of them.

ALL: list[Callable[[], Callback]] = [LogitCorrection, RUBi, LearnedMixin, HEX]


class Table(Biased):
    """Logits for as many samples as asked for."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(n, 3, generator=stream(0)))


@pytest.mark.parametrize("make", [LogitCorrection, RUBi, LearnedMixin])
def test_the_signal_has_a_name(make: Callable[..., Callback]) -> None:
    assert make(signal="other").requires == ("other",)
    with pytest.raises(ValueError, match="requires the signal 'other'"):
        World(Biased(), make(signal="other"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LogitCorrection(tau=0.0), "LogitCorrection: tau is 0.0, expected a number above"),
        (
            lambda: LogitCorrection(momentum=1.0),
            "LogitCorrection: momentum is 1.0, expected 0 <= momentum < 1",
        ),
        (
            lambda: LogitCorrection(belief="Soft"),  # type: ignore[arg-type]
            "LogitCorrection: belief is 'Soft', expected 'soft' or 'hard'",
        ),
        (
            lambda: LogitCorrection(smoothing=0.0),
            "LogitCorrection: smoothing is 0.0, expected 0 < smoothing < 1",
        ),
        (lambda: LearnedMixin(-0.1), "LearnedMixin: entropy is -0.1, expected a number >= 0"),
        (lambda: HEX(levels=1), "HEX: levels is 1, expected at least 2"),
        (lambda: HEX(width=0), "HEX: width is 0, expected at least 1"),
    ],
)
def test_arguments_out_of_range_are_refused(make: Callable[[], Callback], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
