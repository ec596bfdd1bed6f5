"""Compiled models train the same, and under autocast callbacks compute in float32."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from online_debias.engine import Batch, Callback, Engine, Indexed, Run
from tests.conftest import make_images, make_model, make_recipe


class Head(Callback):
    """Learns the targets from the features of both taps, and notes what type everything has."""

    taps = ("bottleneck", "shallow")

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()

    def setup(self, run: Run) -> None:
        self.linear = nn.Linear(sum(map(run.width, self.taps)), run.n_classes)
        self.shrinks = nn.Parameter(torch.ones(()))

    def on_loss(self, batch: Batch) -> None:
        features = torch.cat([batch.features[tap] for tap in self.taps], 1).detach()
        logits = self.linear(features)
        term = nn.functional.cross_entropy(logits, batch.targets) + self.shrinks.square()
        batch.add_loss(self.name, term)
        assert batch.logits is not None and batch.losses is not None
        self.seen |= {x.dtype for x in (features, logits, batch.logits, batch.losses, term)}


def plainly(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    loss.backward()
    optimizer.step()


def train(
    model: nn.Module,
    engine: Engine,
    forward: Callable[[Tensor], Tensor],
    learn: Callable[[Tensor, torch.optim.Optimizer], None] = plainly,
    around: Callable[[], AbstractContextManager[Any]] = nullcontext,
    epochs: int = 3,
) -> None:
    """Some epochs of the plain loop; `around` encloses what a framework's training step has."""
    loader = DataLoader(Indexed(make_images()), batch_size=40, sampler=engine.sampler(seed=0))
    optimizer = torch.optim.SGD([*model.parameters(), *engine.parameters()], lr=0.1)
    for _ in range(epochs):
        for index, inputs, targets in loader:
            with around():
                batch = engine.start_step(index, inputs, targets)
                loss = engine.loss(batch, forward(batch.inputs))
            optimizer.zero_grad()
            learn(loss, optimizer)
            engine.end_step(batch)
        engine.end_epoch()


def make_engine(model: nn.Module, head: Callback | None = None) -> Engine:
    return Engine(model, [*make_recipe(), head or Head()], n_samples=240, n_classes=3)


def eager() -> nn.Module:
    model = make_model()
    train(model, make_engine(model), model)
    return model


def accuracy(model: nn.Module) -> float:
    images = make_images()
    with torch.no_grad():
        right = model.eval()(images.to_float(images.images)).argmax(1) == images.targets
    return float(right.float().mean())


@pytest.mark.parametrize("engine_on", ["model", "wrapper"])
def test_a_compiled_model_trains_the_same_weights(engine_on: str) -> None:
    torch.compiler.reset()
    model = make_model()
    engine = make_engine(model) if engine_on == "model" else None
    compiled: Any = torch.compile(model, backend="aot_eager", fullgraph=True)
    train(model, engine or make_engine(compiled), compiled)
    for (name, expected), found in zip(
        eager().state_dict().items(), model.state_dict().values(), strict=True
    ):
        assert torch.equal(found, expected), name


def test_compiled_code_is_made_once_and_not_in_every_step() -> None:
    torch.compiler.reset()
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    model = make_model()
    engine = make_engine(model)
    train(model, engine, torch.compile(model, backend=backend))
    assert len(graphs) == 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="the default compiler calls g++")
# Inductor declares a class of its own with TorchScript, which torch deprecates.
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
def test_the_default_compiler_trains_the_same_weights_to_rounding() -> None:
    torch.compiler.reset()
    model = make_model()
    engine = make_engine(model)
    train(model, engine, torch.compile(model))
    torch.testing.assert_close(model.state_dict(), eager().state_dict(), rtol=1e-3, atol=1e-4)


def test_taps_that_come_after_the_first_compiled_pass_are_reported() -> None:
    torch.compiler.reset()
    model = make_model()
    compiled = torch.compile(model, backend="eager")
    compiled(torch.zeros(40, 3, 12, 12))
    engine = make_engine(model)
    with pytest.raises(ValueError, match="did not fire .* the engine before torch.compile"):
        train(model, engine, compiled)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_under_autocast_callbacks_and_losses_stay_in_float32(half: torch.dtype) -> None:
    model, head = make_model(), Head()
    types: set[torch.dtype] = set()

    def forward(inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=half):
            logits: Tensor = model(inputs)
        types.add(logits.dtype)
        return logits

    scaler = torch.amp.GradScaler("cpu", enabled=half is torch.float16)

    def learn(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        assert loss.dtype is torch.float32
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    engine = make_engine(model, head)
    train(model, engine, forward, learn, epochs=6)  # after three, chance decides
    assert types == {half} and head.seen == {torch.float32}
    assert all(value.dtype is torch.float32 for value in (*model.parameters(), *head.parameters()))
    assert accuracy(model) > 0.8
    # d/dx x^2 = 2x at a rate of 0.1, in 36 steps: the scale of the loss is not in the gradient.
    torch.testing.assert_close(head.shrinks.detach(), torch.tensor(0.8**36))


def test_all_up_to_the_loss_may_run_under_autocast() -> None:
    model, head = make_model(), Head()
    autocast = functools.partial(torch.autocast, "cpu", dtype=torch.bfloat16)
    train(model, make_engine(model, head), model, around=autocast)
    assert head.seen == {torch.float32}
    assert accuracy(model) > 0.8
