"""What holds for every callback, checked for any class, a user's own too.

    pytest tests/contract.py                                  # every exported callback
    pytest tests/contract.py --callback mine.WeighByLoss      # and this one

A callback is put into a run with whatever provides the signals it requires and, where all it does
is publish signals, with somebody who acts on them.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from online_debias import callbacks as exported
from online_debias.callbacks import (
    BiasProbe,
    ClusterWeights,
    ConflictScore,
    EnD,
    NoiseScore,
    OnlineClusters,
    Reweight,
    RUBi,
    ShortcutScore,
)
from online_debias.data import Images
from online_debias.detectors import HalfSpaceTrees, Mahalanobis, PartViews
from online_debias.engine import Callback, Event, Monitor, Run
from online_debias.engine import engine as engine_module
from online_debias.memory.recorder import Scalar
from online_debias.runtime import checkpoint
from online_debias.training.settings import Precision
from online_debias.training.trainer import Trainer
from online_debias.views import PartView, TextureView
from tests.conftest import make_cells, make_files, make_images, make_trainer
from tests.no_sync import NoSync
from tests.orders import shuffled


class Cells(ShortcutScore):  # whose cells speak in the second round
    __doc__ = ShortcutScore.__doc__

    def __init__(self, name: str = "shortcut_score") -> None:
        super().__init__([make_cells()], name=name)


class Texture(ShortcutScore):  # whose texture speaks in the second round, unless cells never err
    __doc__ = ShortcutScore.__doc__

    def __init__(self, name: str = "shortcut_score") -> None:
        texture = TextureView(Mahalanobis(fold=48), errors=1, same=0, least=96)
        super().__init__([make_cells(), texture], name=name)


class Parts(ShortcutScore):  # which chooses a part after five steps, if only it tells something
    __doc__ = ShortcutScore.__doc__
    warmup = 2  # rounds before it speaks

    def __init__(self, name: str = "shortcut_score") -> None:
        parts = PartViews((2,), threshold=1e-6, tells=1e-6, least=1, n_trees=4, height=4, fold=32)
        parts.least_classes = 3
        super().__init__([make_cells(0.99, sure=0.99), PartView(parts)], name=name)


class Noise(NoiseScore):  # which flags rows after the first round
    __doc__ = NoiseScore.__doc__

    def __init__(self, name: str = "noise_score") -> None:
        super().__init__(separation=0.3, warmup=1, name=name)


EAGER: dict[type[Callback], type[Callback]] = {ShortcutScore: Cells, NoiseScore: Noise}
EXPORTED = [*(getattr(exported, name) for name in exported.__all__), Texture, Parts]


def forest() -> ConflictScore:
    """Scores that are ready after two batches."""
    return ConflictScore(HalfSpaceTrees(n_trees=10, height=4, fold=64))


PROVIDERS: dict[str, Callable[[], Callback]] = {
    "conflict": forest,
    "bias_label": forest,
    "bias_logits": lambda: BiasProbe(label_signal=None, signal=None),
    "cluster": lambda: OnlineClusters(n_clusters=2, label_signal=None),
}
READERS: dict[str, Callable[[], Callback]] = {
    "conflict": Reweight,
    "bias_label": lambda: EnD(alpha=0.1, beta=1.0),
    "bias_logits": RUBi,
    "cluster": ClusterWeights,
    "noise": Reweight,
}


def companions(callback: Callback) -> list[Callback]:
    """The callback with those it needs, and those that act on what it publishes."""
    together = [callback]
    for signal in callback.requires:
        if not any(signal in other.provides for other in together):
            if signal not in PROVIDERS:
                pytest.fail(
                    f"{callback.name!r} requires {signal!r}; add who provides it to PROVIDERS."
                )
            together.append(PROVIDERS[signal]())
    readers = [READERS[signal]() for signal in callback.provides if signal in READERS]
    names = {other.name for other in together}
    return together + [reader for reader in readers if reader.name not in names]


def run(
    callbacks: Iterable[Callback], images: Images | None = None, device: str = "cpu"
) -> Trainer:
    """A trainer of five steps a round: a first one, one drawn from what was learned, and as many
    between them as a callback waits for."""
    callbacks = list(callbacks)
    rounds = 1 + max([1, *(getattr(callback, "warmup", 1) for callback in callbacks)])
    return make_trainer(
        callbacks,
        images,
        epochs=rounds,
        batch_size=48,
        device=device,
        schedule="constant",
        lr=3e-3,
        log_every=10**6,
    )


def trained(callbacks: Iterable[Callback], images: Images | None = None) -> Trainer:
    trainer = run(callbacks, images)
    trainer.fit()
    return trainer


def state(trainer: Trainer) -> dict[str, Tensor]:
    """All tensors of the model and of the callbacks."""
    found = {f"model.{name}": value for name, value in trainer.model.state_dict().items()}
    for callback in trainer.engine.callbacks:
        for name, value in callback.state_dict().items():
            if isinstance(value, Tensor):
                found[f"{callback.name}.{name}"] = value
    return found


def assert_equal(one: Trainer, other: Trainer, rtol: float = 0, atol: float = 0) -> None:
    ours, theirs = state(one), state(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(
            value,
            theirs[name],
            rtol=rtol,
            atol=atol,
            equal_nan=True,
            msg=lambda text, n=name: f"{n} {text}",
        )


def distance(one: Trainer, other: Trainer) -> float:
    """How far apart the trained weights are, relative to their length."""
    ours, theirs = (
        torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])
        for trainer in (one, other)
    )
    return float((ours - theirs).norm() / theirs.norm())


class Tags(Monitor):
    """Remembers under which tags something was recorded."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def on_scalars(self, scalars: Sequence[Scalar], run: Run) -> None:
        self.names |= {scalar.name for scalar in scalars}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    named = [_class(path) for path in metafunc.config.getoption("--callback")]
    metafunc.parametrize("make", [*EXPORTED, *named], ids=lambda kind: kind.__name__, indirect=True)


def _class(path: str) -> type[Callback]:
    module, _, name = path.rpartition(".")
    kind: type[Callback] = getattr(importlib.import_module(module), name)
    return kind


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the files that some callbacks read."""
    folder = tmp_path_factory.mktemp("files")
    make_files(folder)
    return folder


@pytest.fixture(autouse=True)
def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


@pytest.fixture
def make(request: pytest.FixtureRequest) -> type[Callback]:
    """The class under test."""
    kind: type[Callback] = request.param
    return EAGER.get(kind, kind)


def test_it_is_made_with_defaults_and_by_name(make: type[Callback]) -> None:
    assert make().name and make(name="other").name == "other"
    assert isinstance(make(), nn.Module)


def test_it_changes_the_trained_weights(make: type[Callback]) -> None:
    """A method that equals plain training does nothing, whatever it is called."""
    callbacks = companions(make())
    without = [c for c in companions(make())[1:] if not set(c.requires) & set(make().provides)]
    assert distance(trained(callbacks), trained(without)) > 1e-3  # rounding alone makes 1e-6


def test_contributions_commute(make: type[Callback], monkeypatch: pytest.MonkeyPatch) -> None:
    """Callbacks that need nothing of each other may run in any order; names, and so the random
    streams, stay as they are."""
    expected = trained(companions(make()))
    orders = {tuple(c.name for c in expected.engine.callbacks)}
    for seed in range(3):
        monkeypatch.setattr(engine_module, "in_order", partial(shuffled, seed=seed))
        found = trained(companions(make()))
        orders.add(tuple(c.name for c in found.engine.callbacks))
        # Autograd sums gradients in the order in which terms were made, which rounds differently.
        assert_equal(expected, found, rtol=1e-3, atol=1e-5)
    together = companions(make())
    needed = sum(len({*a.requires} & {*b.provides}) > 0 for a in together for b in together)
    assert len(orders) > 1 or needed >= len(together) - 1  # a chain has one order


def test_it_begins_anew_in_another_run(make: type[Callback]) -> None:
    callbacks = companions(make())
    first = {name: value.clone() for name, value in state(trained(callbacks)).items()}
    for name, value in state(trained(callbacks)).items():
        torch.testing.assert_close(value, first[name], rtol=0, atol=0, equal_nan=True, msg=name)


@pytest.mark.parametrize("stop", [2, 7])
def test_a_resumed_run_is_the_same_to_the_last_bit(
    make: type[Callback], stop: int, tmp_path: Path
) -> None:
    first = run(companions(make()))
    epochs, rest = divmod(stop, 5)
    first.epochs = epochs
    first.fit()
    first.model.train()
    for _, batch in zip(range(rest), first.loader, strict=False):
        first._step(*batch)
    checkpoint.save(tmp_path / "last.pt", first.state_dict())
    second = run(companions(make()))
    second.load_state_dict(checkpoint.load(tmp_path / "last.pt"))  # with weights_only=True
    second.fit()
    assert_equal(trained(companions(make())), second)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_no_step_waits_for_the_device(make: type[Callback], precision: Precision) -> None:
    trainer = run(companions(make()))
    trainer.settings = replace(trainer.settings, precision=precision)
    step, steps = trainer._step, 0

    def watched(*batch: Tensor) -> None:
        nonlocal steps
        with NoSync():
            step(*batch)
        steps += 1

    trainer._step = watched  # type: ignore[method-assign]
    trainer.fit()
    assert steps == 5 * trainer.epochs
    assert all(bool(value.isfinite().all()) for value in trainer.model.state_dict().values())


@pytest.mark.gpu
def test_no_step_waits_on_a_gpu(make: type[Callback]) -> None:
    trainer = run(companions(make()), device="cuda")
    steps = iter(trainer.loader)
    trainer._step(*next(steps))  # what is made in the first step may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer._step(*next(steps))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_it_never_holds_the_model(make: type[Callback]) -> None:
    callback = make()
    trainer = run(companions(callback))
    trainer.fit()
    own = {id(module) for module in trainer.model.modules()}
    own |= {id(parameter) for parameter in trainer.model.parameters()}
    held = [*callback.modules(), *callback.parameters(), *callback.buffers()]
    for module in callback.modules():
        held += [value for name, value in vars(module).items() if name != "run"]
    assert not [thing for thing in held if id(thing) in own]


def test_annotations_do_not_matter_unless_it_says_so(make: type[Callback]) -> None:
    images = make_images()
    assert images.bias is not None
    shuffled = Images(images.images, images.targets, images.bias.flip(0), images.classes)
    one, other = trained(companions(make())), trained(companions(make()), shuffled)
    assert one.engine.oracle is make.uses_annotations
    if make.uses_annotations:
        assert distance(one, other) > 1e-3
    else:
        assert_equal(one, other)
        assert_equal(one, trained(companions(make()), without_annotations(images)))


def without_annotations(images: Images) -> Images:
    return Images(images.images, images.targets, None, images.classes)


def test_its_docstring_lists_signals_and_records(make: type[Callback]) -> None:
    text = re.sub(r"\s+", " ", make.__doc__ or "")
    assert "Args:" in text or make.__init__ is Callback.__init__
    callback = make()
    for signal in (*callback.requires, *callback.provides):
        assert f"`{signal}`" in text, f"the docstring does not name the signal {signal!r}"
    trainer = run(companions(callback))
    trainer.engine.monitors.append(seen := Tags())
    owner, noted = "", set()
    record = trainer.engine.run._record

    def watched(name: str, value: Tensor | float) -> None:
        if owner == callback.name:
            noted.add(name)
        record(name, value)

    def owned(hook: Callable[..., None]) -> Callable[..., None]:
        def call(*args: object) -> None:
            nonlocal owner
            owner = callback.name
            hook(*args)
            owner = ""

        return call

    trainer.engine.run._record = watched
    for event in Event:
        if hasattr(callback, event.value):
            setattr(callback, event.value, owned(getattr(callback, event.value)))
    trainer.fit()
    by_engine = re.compile(rf"(terms|weights)/{callback.name}(_head)?$")
    for tag in sorted(noted | {name for name in seen.names if by_engine.match(name)}):
        assert f"`{tag}`" in text, f"the docstring does not name the record {tag!r}"
