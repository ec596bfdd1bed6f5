"""What a step asks of the device, in operations: a cost that no busy machine can blur.

The bounds are today's counts and a little more. Who needs more raises them, and says why.
"""

from __future__ import annotations

from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from online_debias.data import Images
from online_debias.engine import Callback
from online_debias.functional.losses.cross_entropy import cross_entropy
from online_debias.settings import parser
from online_debias.training.optimizer import make_optimizer, make_schedule
from tests.conftest import make_images, make_model, make_trainer

ROWS, BATCH = 2400, 120
WATCHED, RESTING = 3, 4  # epochs: in the third, views and texture are compared still


class Count(TorchDispatchMode):
    """Counts operations."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.operations += 1
        return func(*args, **(kwargs or {}))


def operations(callbacks: list[Callback], images: Images, epochs: int = RESTING) -> list[int]:
    """Return how many each step of the last epoch has, when views are chosen and samples drawn."""
    trainer = make_trainer(callbacks, images, epochs=epochs, batch_size=BATCH, log_every=10**6)
    found: list[int] = []
    step = trainer._step

    def counted(*batch: Tensor) -> None:
        with Count() as count:
            step(*batch)
        found.append(count.operations)

    trainer._step = counted  # type: ignore[method-assign]
    trainer.fit()
    return found[-ROWS // BATCH :]


def by_hand(images: Images) -> int:
    """Return how many a loop has that somebody would write: the second step of two."""
    model = make_model().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(model, [], 8e-3, 0.0)
    schedule = make_schedule("one-cycle", optimizer, 10)
    inputs = Images.to_float(images.images[:BATCH]).contiguous(memory_format=torch.channels_last)
    for _ in range(2):
        with Count() as count:
            loss = cross_entropy(model(inputs), images.targets[:BATCH]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return count.operations


def recipe(name: str) -> list[Callback]:
    callbacks: list[Callback] = parser.parse(["--method", name])[0].callbacks
    return callbacks


def test_the_engine_adds_few_operations_to_a_loop_written_by_hand() -> None:
    images = make_images(ROWS)
    counts = operations([], images)
    assert len(set(counts)) == 1
    assert counts[0] - by_hand(images) <= 10


def test_the_recipes_add_no_more_than_they_did() -> None:
    images = make_images(ROWS)
    plain = operations([], images)[0]
    for name, epochs, usual, folding in (
        # Of these, about 34 are the engine's memory of score and label, which a monitor had before.
        ("online-minimal", RESTING, 145, 185),
        ("online", RESTING, 410, 450),  # the noise score works by then
        ("online", WATCHED, 650, 720),
    ):
        counts = operations(recipe(name), images, epochs)
        assert median(counts) - plain <= usual
        assert max(counts) - plain <= folding
