"""Callbacks that take the bias out of the features: their maths, and who learns what."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from online_debias.callbacks.terms.confusion import Confusion
from online_debias.callbacks.terms.gradient_reversal import GradientReversal
from online_debias.callbacks.terms.information import Information
from online_debias.callbacks.terms.private_head import PrivateHead
from online_debias.callbacks.terms.spectral_decoupling import SpectralDecoupling
from online_debias.engine import Batch, Callback, Engine, Run
from online_debias.functional.losses.confusion import uniform_cross_entropy
from online_debias.functional.losses.gradient_reversal import reversed_cross_entropy
from online_debias.functional.losses.information import normalized_mutual_information
from online_debias.functional.losses.spectral_decoupling import mean_squared_norm
from tests.no_sync import NoSync

N, B, CLASSES, VALUES, WIDTH = 64, 24, 3, 5, 6
REMOVALS: list[Callable[..., PrivateHead]] = [Information, Confusion, GradientReversal]


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scene(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Logits `[B, K]`, labels that lack the last value, and which rows count."""
    logits = 2 * torch.randn(B, VALUES, generator=stream(0), dtype=dtype)
    labels = torch.randint(VALUES - 1, (B,), generator=stream(1))
    return logits, labels, torch.rand(B, generator=stream(2)) < 0.7


# The maths.


def information_loops(logits: Tensor, labels: Tensor, keep: Tensor) -> float:
    rows = [row for row in range(len(logits)) if keep[row]]
    k = logits.shape[1]
    joint = [[0.0] * k for _ in range(k)]
    for row in rows:
        exps = [math.exp(logit) for logit in logits[row].tolist()]
        for value in range(k):
            joint[int(labels[row])][value] += exps[value] / sum(exps)
    joint = [[max(cell, 1e-15) / max(len(rows), 1) for cell in line] for line in joint]
    total = 0.0
    for y in range(k):
        for p in range(k):
            margins = max(sum(joint[y]) * sum(line[p] for line in joint), 1e-15)
            total += joint[y][p] * math.log(joint[y][p] / margins)
    return total / math.log(k)


def test_information_is_the_formula() -> None:
    logits, labels, keep = scene()
    expected = information_loops(logits, labels, keep)
    assert 0.01 < expected < 0.9
    assert normalized_mutual_information(logits, labels, keep).item() == pytest.approx(expected)


def test_information_is_between_0_and_1() -> None:
    labels = torch.arange(20) % VALUES
    keep = torch.ones(20, dtype=torch.bool)
    certain = 200 * F.one_hot(labels, VALUES).float()
    assert normalized_mutual_information(certain, labels, keep).item() == pytest.approx(1)
    constant = torch.randn(1, VALUES, generator=stream(0)).expand(20, -1)
    assert normalized_mutual_information(constant, labels, keep).item() == pytest.approx(
        0, abs=1e-6
    )
    assert normalized_mutual_information(certain, labels, ~keep).item() == pytest.approx(
        0, abs=1e-6
    )


def test_information_has_finite_gradients_at_certain_predictions() -> None:
    labels = torch.arange(20) % 2
    logits = (1e4 * F.one_hot(labels, VALUES).float()).requires_grad_()
    normalized_mutual_information(logits, labels, torch.ones(20, dtype=torch.bool)).backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_confusion_is_the_formula_and_least_at_no_opinion() -> None:
    logits, _, _ = scene()
    expected = []
    for row in logits.tolist():
        total = sum(math.exp(logit) for logit in row)
        expected.append(-sum(math.log(math.exp(logit) / total) for logit in row) / VALUES)
    assert uniform_cross_entropy(logits).tolist() == pytest.approx(expected)
    assert min(expected) > math.log(VALUES)
    assert uniform_cross_entropy(torch.zeros(1, VALUES)).item() == pytest.approx(math.log(VALUES))


def test_reversed_cross_entropy_is_the_formula() -> None:
    logits, labels, _ = scene()
    for entropy in (0.0, 0.3):
        expected = []
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
            total = sum(math.exp(logit) for logit in row)
            p = [math.exp(logit) / total for logit in row]
            expected.append(math.log(p[label]) + entropy * sum(q * math.log(q) for q in p))
        actual = reversed_cross_entropy(logits, labels, entropy)
        assert actual.tolist() == pytest.approx(expected)


def test_mean_squared_norm_sums_over_classes() -> None:
    logits, _, _ = scene()
    expected = sum(sum(logit**2 for logit in row) for row in logits.tolist()) / B
    assert mean_squared_norm(logits).item() == pytest.approx(expected)


# In a run.


class Labels(Callback):
    """Publishes chosen bias values, and marks chosen rows as mixed."""

    provides = ("bias_label",)

    def __init__(self, bias: Tensor, mixed: Tensor, n_values: int = VALUES) -> None:
        super().__init__()
        self.chosen, self.mixed, self.n_values = bias, mixed, n_values

    def setup(self, run: Run) -> None:
        run.n_values["bias_label"] = self.n_values

    def on_batch(self, batch: Batch) -> None:
        batch.mixed = self.mixed[batch.index]

    def on_features(self, batch: Batch) -> None:
        batch.publish("bias_label", self.chosen[batch.index])


class Net(nn.Module):
    """A body whose output is the bottleneck, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Linear(4, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(inputs))
        return logits


BIAS = torch.randint(VALUES, (N,), generator=stream(3))
MIXED = torch.arange(N) % 4 == 3
INPUTS = torch.randn(N, 4, generator=stream(4))
TARGETS = torch.arange(N) % CLASSES
ROWS = torch.arange(B)
KEEP = ~MIXED[:B]


def build(callback: Callback, mixed: Tensor = MIXED, bias: Tensor = BIAS) -> tuple[Engine, Net]:
    net = Net()
    callbacks = [callback, Labels(bias, mixed)]
    return Engine(net, callbacks, n_samples=N, n_classes=CLASSES), net


def step(engine: Engine, net: Net) -> tuple[Batch, Tensor]:
    batch = engine.start_step(ROWS, INPUTS[ROWS], TARGETS[ROWS])
    return batch, engine.loss(batch, net(batch.inputs))


def gradients(callback: Callback, **kwargs: Any) -> tuple[list[Tensor], list[Tensor], Net]:
    """Of the model and of the callback, from the callback's own terms alone."""
    engine, net = build(callback, **kwargs)
    batch, _ = step(engine, net)
    mine = [*net.body.parameters(), *callback.parameters()]
    found = torch.autograd.grad(sum(batch.terms.values(), torch.zeros(())), mine)
    return list(found[:2]), list(found[2:]), net


def expected_removal(callback: PrivateHead, logits: Tensor) -> Tensor:
    bias, chosen = BIAS[:B], logits[KEEP]
    if isinstance(callback, Information):
        return normalized_mutual_information(logits, bias, KEEP)
    if isinstance(callback, Confusion):
        return uniform_cross_entropy(chosen).mean()
    assert isinstance(callback, GradientReversal)
    return reversed_cross_entropy(chosen, bias[KEEP], callback.entropy).mean()


@pytest.mark.parametrize("make", REMOVALS)
def test_the_terms_are_the_head_s_loss_and_the_weighted_removal(
    make: Callable[..., PrivateHead],
) -> None:
    callback = make(weight=0.7)
    engine, net = build(callback)
    batch, loss = step(engine, net)
    logits = callback.head(batch.features["bottleneck"])
    head = F.cross_entropy(logits[KEEP], BIAS[:B][KEEP])
    removal = 0.7 * expected_removal(callback, logits)
    torch.testing.assert_close(batch.terms[f"{callback.name}_head"], head)
    torch.testing.assert_close(batch.terms[callback.name], removal)
    assert batch.losses is not None
    torch.testing.assert_close(loss, batch.losses.mean() + head + removal)


@pytest.mark.parametrize("make", REMOVALS)
def test_the_removal_trains_the_model_alone_and_the_head_s_loss_the_head_alone(
    make: Callable[..., PrivateHead],
) -> None:
    callback = make()
    of_model, of_head, net = gradients(callback)
    z = net.body(INPUTS[:B])
    logits = callback.head(z)
    removal = callback.weight * expected_removal(callback, logits)
    expected = torch.autograd.grad(removal, list(net.body.parameters()), retain_graph=True)
    for ours, theirs in zip(of_model, expected, strict=True):
        assert theirs.abs().max() > 0
        torch.testing.assert_close(ours, theirs)
    plain = F.cross_entropy(logits[KEEP], BIAS[:B][KEEP])
    for ours, theirs in zip(
        of_head, torch.autograd.grad(plain, list(callback.head.parameters())), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


class Reversal(torch.autograd.Function):
    """The layer itself: identity forward, minus `scale` backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return -ctx.scale * grad, None


def test_detaching_gives_the_gradients_of_a_reversal_layer() -> None:
    callback = GradientReversal(weight=0.3, entropy=0.0)
    of_model, of_head, net = gradients(callback)
    z: Tensor = Reversal.apply(net.body(INPUTS[:B]), 0.3)  # type: ignore[no-untyped-call]
    loss = F.cross_entropy(callback.head(z)[KEEP], BIAS[:B][KEEP])
    expected = torch.autograd.grad(loss, [*net.body.parameters(), *callback.head.parameters()])
    for ours, theirs in zip([*of_model, *of_head], expected, strict=True):
        assert theirs.abs().max() > 0
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("make", REMOVALS)
def test_without_rows_that_count_nobody_learns(make: Callable[..., PrivateHead]) -> None:
    of_model, of_head, _ = gradients(make(), mixed=torch.ones(N, dtype=torch.bool))
    for gradient in (*of_model, *of_head):
        assert gradient.abs().max() < 1e-6


@pytest.mark.parametrize("make", REMOVALS)
def test_values_out_of_range_count_as_the_nearest(make: Callable[..., PrivateHead]) -> None:
    outside = torch.where(BIAS == 0, -3, torch.where(BIAS == VALUES - 1, VALUES + 7, BIAS))
    (model, head, _), (own_model, own_head, _) = gradients(make(), bias=outside), gradients(make())
    for ours, theirs in zip([*model, *head], [*own_model, *own_head], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("make", REMOVALS)
def test_the_features_become_unreadable(make: Callable[..., PrivateHead]) -> None:
    """One input tells the bias value and another the class; the features come to show one only."""
    bias, targets = (INPUTS[:, 0] > 0).long(), (INPUTS[:, 1] > 0).long()

    def learn(weight: float) -> tuple[float, float]:
        engine, net = build(callback := make(weight=weight), torch.zeros_like(MIXED), bias)
        own = torch.optim.Adam([*net.parameters(), *engine.parameters()], lr=0.02)
        for _ in range(400):
            batch = engine.start_step(torch.arange(N), INPUTS, targets)
            loss = engine.loss(batch, net(batch.inputs))
            own.zero_grad()
            loss.backward()
            own.step()
            engine.end_step(batch)
        assert batch.losses is not None
        return batch.terms[f"{callback.name}_head"].item(), batch.losses.mean().item()

    bias_loss, class_loss = learn(1e-6)
    assert bias_loss < 0.15 and class_loss < 0.05
    bias_loss, class_loss = learn(0.4)
    assert bias_loss > 0.5 and class_loss < 0.05


@pytest.mark.parametrize("make", [*REMOVALS, SpectralDecoupling])
def test_no_step_waits_for_the_device(make: Callable[..., Callback]) -> None:
    engine, net = build(make())
    with NoSync():
        batch, loss = step(engine, net)
        loss.backward()
        engine.end_step(batch)


def test_the_head_is_the_same_in_every_run_and_as_wide_as_the_signal_has_values() -> None:
    one, other = Information(), Information()
    build(one)
    torch.manual_seed(99)
    build(other)
    assert one.head.weight.shape == (VALUES, WIDTH)
    torch.testing.assert_close(one.head.weight, other.head.weight, rtol=0, atol=0)


def test_two_of_a_kind_live_in_one_run() -> None:
    net = Net()
    both = [Information(name="first"), Information(name="second"), Labels(BIAS, MIXED)]
    batch, _ = step(Engine(net, both, n_samples=N, n_classes=CLASSES), net)
    assert set(batch.terms) == {"first", "first_head", "second", "second_head"}


def test_a_signal_of_one_value_is_refused() -> None:
    with pytest.raises(ValueError, match="Confusion: the signal 'bias_label' has 1 value"):
        Engine(Net(), [Confusion(), Labels(BIAS, MIXED, 1)], n_samples=N, n_classes=CLASSES)


def test_spectral_decoupling_is_half_the_weighted_mean_of_squared_norms() -> None:
    engine, net = build(SpectralDecoupling(weight=0.3))
    batch, loss = step(engine, net)
    assert batch.logits is not None and batch.losses is not None
    expected = 0.15 * batch.logits.square().sum() / B  # mixed rows have logits too
    torch.testing.assert_close(batch.terms["spectral_decoupling"], expected)
    torch.testing.assert_close(loss, batch.losses.mean() + expected)
    (ours,) = torch.autograd.grad(batch.terms["spectral_decoupling"], batch.logits)
    torch.testing.assert_close(ours, 0.3 * batch.logits.detach() / B)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Information(weight=0), "Information: weight is 0, expected a finite number above"),
        (lambda: Confusion(weight=-1.0), "Confusion: weight is -1.0, expected a finite number"),
        (lambda: Confusion(weight=math.nan), "Confusion: weight is nan, expected a finite number"),
        (lambda: GradientReversal(weight=math.inf), "GradientReversal: weight is inf, expected"),
        (lambda: GradientReversal(entropy=-0.1), "entropy is -0.1, expected a finite number >= 0"),
        (lambda: SpectralDecoupling(0.0), "SpectralDecoupling: weight is 0.0, expected a finite"),
    ],
)
def test_arguments_out_of_range_are_refused(make: Callable[[], Callback], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
