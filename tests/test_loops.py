"""The examples of docs/loops.md train the plain loop's weights, also after a stop."""

from __future__ import annotations

import functools
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from online_debias import callbacks, data, models
from online_debias.callbacks import ConflictScore, CrossBiasMix, EnD, Resample
from online_debias.data import Images
from online_debias.detectors import HalfSpaceTrees
from online_debias.engine import Batch, Engine, Indexed
from online_debias.runtime.torchvision_compat import import_torchvision
from tests.conftest import make_images, make_model

PAGE = Path(__file__).resolve().parent.parent / "docs/loops.md"
SECTIONS = re.split(r"^## (.+)$", PAGE.read_text(), flags=re.M)[1:]
EXAMPLES = {
    name: re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    for name, text in zip(SECTIONS[::2], SECTIONS[1::2], strict=True)
}
PACKAGES = {
    "Plain PyTorch": "torch",
    "Lightning": "pytorch_lightning",
    "Accelerate": "accelerate",
    "Ignite": "ignite",
    "Hugging Face Trainer": "transformers",
}
EPOCHS, ROWS = 3, 50  # 240 images: the last batch of a round has 40

LIGHTNING = [
    # Lightning asks the leaves of a tree for a class that torch deprecates: theirs to change.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated"),
    # Lightning's advice: on a first run there is no checkpoint, on a second one there is; our
    # epochs are short; and, on larger machines, a loader could have workers.
    pytest.mark.filterwarnings("ignore:.*there is no last checkpoint available"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller than the log"),
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
]
NAMES = [pytest.param(x, marks=LIGHTNING if x == "Lightning" else ()) for x in PACKAGES]


class Digits:
    """Stands in for the digits of the examples."""

    def train(self) -> Images:
        return make_images()


def small_score() -> ConflictScore:
    """A score that is ready in the first epoch."""
    return ConflictScore(HalfSpaceTrees(n_trees=10, height=4, fold=64))


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small data and a small model on the CPU, an empty folder, and no network."""
    monkeypatch.setattr(data, "BiasedDigits", Digits)
    monkeypatch.setattr(models, "SmallConvNet", lambda n_classes: make_model())
    monkeypatch.setattr(callbacks, "ConflictScore", small_score)
    monkeypatch.chdir(tmp_path)
    for backend in (torch.cuda, torch.backends.mps):
        monkeypatch.setattr(backend, "is_available", lambda: False)

    def refuse(*args: object) -> None:
        raise AssertionError("an example reaches for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def run(name: str, epochs: int) -> tuple[nn.Module, Engine]:
    """Run an example for so many epochs of small batches; return its model and its engine."""
    import_torchvision()  # Lightning and transformers import it
    pytest.importorskip(PACKAGES[name])
    (source,) = EXAMPLES[name]
    for pattern, small in ((r"(epochs=|epoch < )8\b", rf"\g<1>{epochs}"), ("=128", f"={ROWS}")):
        source, found = re.subn(pattern, small, source)
        assert found == 1
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(source, f"{PAGE.name}: {name}", "exec"), names)
    return names["model"], names["engine"]


@functools.cache
def plain_loop() -> tuple[nn.Module, Engine, list[Tensor]]:
    """The four calls and nothing else; returns the rounds as well."""
    images, model, rounds = make_images(), make_model(), []
    recipe = [small_score(), Resample(), CrossBiasMix(), EnD(alpha=0, beta=3)]
    engine = Engine(model, recipe, n_samples=len(images), n_classes=3)
    loader = DataLoader(Indexed(images), batch_size=ROWS, sampler=engine.sampler(seed=0))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(EPOCHS):
        rounds.append(engine.sampling.indices())
        for index, inputs, targets in loader:
            batch = engine.start_step(index, inputs, targets)
            loss = engine.loss(batch, model(batch.inputs))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            engine.end_step(batch)
        engine.end_epoch()
    return model, engine, rounds


def assert_same_state(model: nn.Module, engine: Engine) -> None:
    """Compare model, callbacks and progress with the plain loop's, to the last bit."""
    whole, whole_engine, _ = plain_loop()
    pairs = [("model", whole.state_dict(), model.state_dict())]
    for one, other in zip(whole_engine.callbacks, engine.callbacks, strict=True):
        pairs.append((one.name, one.state_dict(), other.state_dict()))
    for part, expected, found in pairs:
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            if isinstance(value, Tensor):
                torch.testing.assert_close(
                    found[name], value, rtol=0, atol=0, equal_nan=True, msg=f"{part}: {name}"
                )
    assert (engine.run.step, engine.run.epoch) == (EPOCHS * 5, EPOCHS)


def test_the_plain_loop_draws_every_round_anew() -> None:
    _, _, rounds = plain_loop()
    counts = [torch.bincount(drawn, minlength=240).max() for drawn in rounds]
    assert counts[0] == 1 and min(counts[1:]) > 1
    assert not torch.equal(rounds[1].sort().values, rounds[2].sort().values)


def test_there_is_one_short_example_for_each_framework() -> None:
    assert EXAMPLES.keys() == PACKAGES.keys()
    for name, blocks in EXAMPLES.items():
        assert len(blocks) == 1
        assert len([line for line in blocks[0].splitlines() if line.strip()]) < 40, name


@pytest.mark.parametrize("name", NAMES)
def test_an_example_trains_the_weights_of_the_plain_loop(name: str) -> None:
    assert_same_state(*run(name, EPOCHS))


@pytest.mark.parametrize("name", NAMES)
def test_an_example_goes_on_from_its_own_checkpoint(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    start_step = Engine.start_step

    def noted(engine: Engine, *rows: Tensor) -> Batch:
        steps.append(engine.run.step)
        return start_step(engine, *rows)

    monkeypatch.setattr(Engine, "start_step", noted)
    run(name, 1)
    assert_same_state(*run(name, EPOCHS))
    assert steps == list(range(EPOCHS * 5))
