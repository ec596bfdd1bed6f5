"""Images are varied in place, as often as said, by what `functional.inputs.augment.mild` does."""

from __future__ import annotations

import pytest
import torch

from online_debias.callbacks import Augment
from online_debias.engine import Callback, Run
from online_debias.functional.inputs.augment import mild
from tests.conftest import make_trainer


@pytest.mark.parametrize("probability", [0.25, 1.0])
def test_rows_are_varied_as_often_as_said(probability: float) -> None:
    trainer = make_trainer([Augment(probability)], epochs=1, batch_size=240)
    (index, plain, targets) = next(iter(trainer.loader))
    batch = trainer.engine.start_step(index, plain, targets)
    changed = (batch.inputs != plain).flatten(1).any(1)
    assert changed.float().mean().item() == pytest.approx(probability, abs=0.1)
    assert not batch.mixed.any() and batch.inputs.shape == plain.shape
    assert batch.inputs.is_contiguous(memory_format=torch.channels_last)
    stream = trainer.engine.run.generator("augment")
    torch.rand(240, generator=stream)
    varied = mild(plain, stream)
    assert torch.equal(batch.inputs[changed], varied[changed])
    assert torch.equal(batch.inputs[~changed], plain[~changed])


class Twice(Callback):
    """Draws the first sample more often from the second epoch on."""

    def on_epoch_end(self, run: Run) -> None:
        run.resample(self.name, torch.tensor([0]), torch.tensor([50.0]))


def test_images_stay_as_they_are_while_drawn_evenly() -> None:
    callbacks = [Augment(probability=1.0, least_rate=2), Twice()]
    trainer = make_trainer(callbacks, epochs=2, batch_size=120)
    for changes in (False, True):
        for index, plain, targets in trainer.loader:
            batch = trainer.engine.start_step(index, plain, targets)
            assert bool((batch.inputs != plain).flatten(1).any(1).all()) is changes
            assert changes or torch.equal(batch.inputs, plain)
            trainer.engine.loss(batch, trainer.model(batch.inputs))
            trainer.engine.end_step(batch)
        trainer.engine.end_epoch()
    resumed = make_trainer(callbacks[:1], epochs=2, batch_size=120)
    resumed.engine.sampling.load_state_dict(trainer.engine.sampling.state_dict())
    assert resumed.engine.run.max_rate == trainer.engine.run.max_rate > 2
    with pytest.raises(ValueError, match=r"least_rate is -1, expected a number >= 0\."):
        Augment(least_rate=-1)


@pytest.mark.parametrize("probability", [0.0, 1.5, float("nan")])
def test_a_probability_out_of_range_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match=r"Augment: probability is .*, expected 0 < prob"):
        Augment(probability)


def test_inputs_that_are_no_images_are_refused() -> None:
    from online_debias import Engine

    model = torch.nn.Linear(4, 2)
    engine = Engine(model, [Augment()], n_samples=8, n_classes=2)
    with pytest.raises(ValueError, match=r"Augment: inputs have shape \(8, 4\), expected images"):
        engine.start_step(torch.arange(8), torch.zeros(8, 4), torch.zeros(8).long())
