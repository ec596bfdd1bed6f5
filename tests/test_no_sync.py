"""No step waits for the device: seen on any machine, by the operations that would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from online_debias.callbacks import ConflictScore, Reweight
from online_debias.callbacks.monitors import Detection
from online_debias.data import Images
from online_debias.engine import Batch, Callback
from online_debias.errors import ConfigError
from tests.conftest import make_recipe, make_trainer
from tests.no_sync import NoSync


@pytest.mark.parametrize(
    "sync",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: x[x > 0],
        lambda x: x.masked_fill_(x > 0, 0).nonzero(),
        lambda x: x.unique(),
        lambda x: x.masked_select(x > 0),
        lambda x: x.sub_(1, alpha=x.sum()),
        lambda x: x.__setitem__(x > 0, 0.0),
    ],
)
def test_the_mode_catches(sync: Callable[[Tensor], object]) -> None:
    with NoSync(), pytest.raises(AssertionError, match="waits for the device"):
        sync(torch.ones(3))


@pytest.mark.parametrize("callbacks", [make_recipe, lambda: [ConflictScore(), Reweight()], list])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_has_none(
    images: Images, callbacks: Callable[[], list[Callback]], precision: Any
) -> None:
    trainer = make_trainer(
        callbacks(),
        images,
        monitors=[Detection()],
        epochs=3,
        batch_size=40,
        precision=precision,
        log_every=10**6,
    )
    steps = []
    step = trainer._step

    def watched(*batch: Tensor) -> None:
        with NoSync():
            step(*batch)
        steps.append(1)

    trainer._step = watched  # type: ignore[method-assign]
    trainer.fit()
    assert len(steps) == 18  # past the first folds and into resampled rounds


def test_a_callback_that_waits_is_found(images: Images) -> None:
    class Waits(Callback):
        def on_loss(self, batch: Batch) -> None:
            assert batch.losses is not None
            self.largest = float(batch.losses.max())

    trainer = make_trainer([Waits()], images, epochs=1, batch_size=40)
    with NoSync(), pytest.raises(ConfigError, match="_local_scalar_dense"):
        trainer._step(*next(iter(trainer.loader)))
