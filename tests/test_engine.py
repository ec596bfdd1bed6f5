"""The engine: order does not matter, annotations stay out, wiring errors come first."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from online_debias.callbacks import BiasProbe, ConflictScore, EnD, Resample, Reweight, ShortcutScore
from online_debias.callbacks.monitors import Detection
from online_debias.data import Images
from online_debias.engine import Batch, Callback, Engine, Event, Indexed, Monitor, Run
from online_debias.engine import engine as engine_module
from online_debias.engine.callback import InputTurn
from online_debias.errors import ConfigError, NonFiniteLossError
from tests.conftest import make_images, make_model, make_recipe, make_trainer
from tests.orders import shuffled


def train(
    callbacks: list[Callback], images: Images, monitors: list[Monitor] | None = None
) -> nn.Module:
    trainer = make_trainer(callbacks, images, monitors=monitors or [], epochs=3, batch_size=32)
    trainer.fit()
    return trainer.model


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def distance(one: nn.Module, other: nn.Module) -> float:
    """How far apart weights are, relative to their length."""
    ours, theirs = (
        torch.cat([p.detach().flatten() for p in model.parameters()]) for model in (one, other)
    )
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("seed", range(4))
def test_contributions_of_the_recipe_commute(
    images: Images, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever order the engine had chosen; autograd then rounds differently."""
    expected = train(make_recipe(), images)
    monkeypatch.setattr(engine_module, "in_order", partial(shuffled, seed=seed))
    found = train(make_recipe(), images)
    for (name, a), b in zip(
        expected.state_dict().items(), found.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5, msg=name)


def test_the_list_of_callbacks_has_no_order(images: Images) -> None:
    assert_equal(train(make_recipe(), images), train(make_recipe()[::-1], images))


def test_every_callback_of_the_recipe_changes_the_weights(images: Images) -> None:
    full = train(make_recipe(), images)
    for left_out in make_recipe():
        if not isinstance(left_out, ShortcutScore):  # which the others require
            rest = [callback for callback in make_recipe() if callback.name != left_out.name]
            assert distance(full, train(rest, images)) > 1e-3, left_out.name
    (score,) = (callback for callback in make_recipe() if isinstance(callback, ShortcutScore))
    assert distance(train([score, Reweight()], images), train([], images)) > 1e-3


def test_shuffled_annotations_change_no_weight(images: Images) -> None:
    assert images.bias is not None
    shuffled = Images(images.images, images.targets, images.bias.flip(0), images.classes)
    without = Images(images.images, images.targets, None, images.classes)
    first = train(make_recipe(), images, [Detection()])
    assert_equal(first, train(make_recipe(), shuffled, [Detection()]))
    assert_equal(first, train(make_recipe(), without, [Detection()]))


def test_a_monitor_changes_no_weight(images: Images) -> None:
    assert_equal(train(make_recipe(), images), train(make_recipe(), images, [Detection()]))


def test_a_failing_monitor_is_reported_and_training_goes_on(images: Images) -> None:
    class Broken(Monitor):
        def on_step_end(self, *args: object) -> None:
            raise KeyError("gone")

    with pytest.warns(RuntimeWarning, match="Broken failed in on_step_end at step 0.*'gone'"):
        model = train([], images, [Broken()])
    assert_equal(model, train([], images))


def test_a_plain_loop_over_the_calls_equals_the_trainer(images: Images) -> None:
    trainer = make_trainer(
        make_recipe(),
        images,
        epochs=3,
        batch_size=40,
        schedule="constant",
        lr=1e-2,
        channels_last=False,
    )
    trainer.fit()
    model = make_model()
    engine = Engine(model, make_recipe(), n_samples=len(images), n_classes=3)
    loader = DataLoader(Indexed(images), batch_size=40, sampler=engine.sampler(seed=0))
    parameters = [*model.parameters(), *engine.parameters()]
    optimizer = torch.optim.AdamW(parameters, 1e-2, weight_decay=0, fused=True)
    for _ in range(3):
        for index, inputs, targets in loader:
            batch = engine.start_step(index, inputs, targets)
            loss = engine.loss(batch, model(batch.inputs))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            engine.end_step(batch)
        engine.end_epoch()
    assert_equal(trainer.model, model)


class Publishes(Callback):
    def __init__(self, name: str, requires: str = "", provides: str = "") -> None:
        super().__init__(name)
        self.requires = tuple(requires.split())
        self.provides = tuple(provides.split())


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([Resample()], "'resample' requires the signal 'conflict'.*add ShortcutScore"),
        ([Publishes("a", "s")], "'a' requires the signal 's'.*in its `provides`"),
        ([Publishes("a", "s", "t"), Publishes("b", "t", "s")], "'a', 'b'.*in a cycle"),
        ([Publishes("a", "", "s"), Publishes("b", "", "s")], "'a' and 'b' both provide"),
        ([Publishes("a"), Publishes("a")], "Two callbacks are called 'a'"),
        ([ConflictScore(tap="waist")], "no tap called 'waist'"),
    ],
)
def test_wiring_that_cannot_work_is_refused_at_construction(
    callbacks: list[Callback], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Engine(make_model(), callbacks, n_samples=8, n_classes=3)


class Turn(Callback):
    def __init__(self, name: str, turn: InputTurn, done: list[str]) -> None:
        super().__init__(name)
        self.input_turn, self.done = turn, done

    def on_batch(self, batch: Batch) -> None:
        self.done.append(self.name)


def test_inputs_are_varied_then_appended_then_mixed_whatever_the_names() -> None:
    done: list[str] = []
    turns: list[Callback] = [Turn("a", "mix", done), Turn("b", "append", done)]
    turns += [Turn("d", "vary", done), Turn("c", "vary", done)]
    engine = Engine(make_model(), turns, n_samples=8, n_classes=3)
    engine.start_step(torch.arange(8), torch.zeros(8, 3, 12, 12), torch.arange(8) % 3)
    assert done == ["c", "d", "b", "a"]  # names decide among those of one turn only


def test_monitors_of_one_class_keep_their_own_state() -> None:
    class Counts(Monitor):
        def __init__(self, n: int) -> None:
            self.n = n

        def state_dict(self) -> dict[str, Any]:
            return {"n": self.n}

        def load_state_dict(self, state: Mapping[str, Any]) -> None:
            self.n = state["n"]

    state = Engine(
        make_model(), monitors=[Counts(1), Counts(2)], n_samples=8, n_classes=3
    ).state_dict()
    monitors = [Counts(0), Counts(0)]
    Engine(make_model(), monitors=monitors, n_samples=8, n_classes=3).load_state_dict(state)
    assert [monitor.n for monitor in monitors] == [1, 2]


def test_features_are_read_only_while_a_callback_wants_them() -> None:
    moody, model = Publishes("moody"), make_model()
    moody.taps = ("bottleneck",)
    engine = Engine(model, [moody, ConflictScore()], n_samples=240, n_classes=3)
    for taps in (("bottleneck",), (), ("bottleneck",)):
        moody.taps = taps
        batch = engine.start_step(torch.arange(8), torch.zeros(8, 3, 12, 12), torch.arange(8) % 3)
        engine.loss(batch, model(batch.inputs))
        assert set(batch.features) == {"shallow", *taps}


def test_readers_run_after_providers_whatever_their_names() -> None:
    callbacks = [Publishes("a", "s t"), Publishes("z", "", "s"), Publishes("m", "s", "t")]
    engine = Engine(make_model(), callbacks, n_samples=8, n_classes=3)
    assert [callback.name for callback in engine.callbacks] == ["z", "m", "a"]


class Oracle(Callback):
    uses_annotations = True

    def on_features(self, batch: Batch) -> None:
        assert self.bias is not None
        self.seen = self.bias[batch.index]


def test_annotations_reach_only_callbacks_that_say_so(images: Images) -> None:
    oracle, blind = Oracle(), Publishes("blind")
    trainer = make_trainer([oracle, blind], images, epochs=1, batch_size=32)
    assert trainer.engine.oracle and blind.bias is None
    trainer.fit()
    assert len(oracle.seen) == 32
    without = Images(images.images, images.targets, None, images.classes)
    with pytest.raises(ValueError, match="'oracle' reads bias labels, but the data has none"):
        make_trainer([Oracle()], without, epochs=1, batch_size=32)


def test_an_error_in_an_own_callback_says_where(images: Images) -> None:
    class Broken(Callback):
        def on_loss(self, batch: Batch) -> None:
            raise KeyError("gone")

    said = r"'broken' failed in on_loss at step 0: KeyError: 'gone' \(.*test_engine.py, line \d+\)"
    with pytest.raises(ConfigError, match=said) as caught:
        train([Broken()], images)
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions take notes from 3.11 on")
def test_an_error_in_a_callback_of_ours_stays_what_it_is(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(callback: Callback, batch: Batch) -> None:
        raise KeyError("gone")

    monkeypatch.setattr(EnD, "on_loss", broken)
    with pytest.raises(KeyError) as caught:
        train([ConflictScore(), EnD()], images)
    assert "in callback 'end' at on_loss, step 0" in getattr(caught.value, "__notes__", [""])[0]


class Explodes(Callback):
    def on_loss(self, batch: Batch) -> None:
        value = float("nan") if batch.step == 5 else 0.0
        batch.add_loss(self.name, torch.tensor(value))


def test_a_loss_that_is_not_finite_names_step_and_callback(images: Images) -> None:
    with pytest.raises(NonFiniteLossError, match="step 5.*loss term of callback 'explodes'"):
        train([Explodes()], images)
    with pytest.raises(NonFiniteLossError, match=r"in step \d+: .*lower learning rate"):
        trainer = make_trainer(images=images, epochs=3, batch_size=32, lr=1e30)
        trainer.fit()


def test_events_come_in_the_documented_order(images: Images) -> None:
    seen: list[str] = []

    class Listener(Callback):
        pass

    for event in (*list(Event)[:7], Event.FIT_END):

        def hook(self: Callback, *args: object, name: str = event.value) -> None:
            seen.append(name)

        setattr(Listener, event.value, hook)
    trainer = make_trainer([Listener()], images, epochs=2, batch_size=120)
    trainer.fit()
    step = ["on_batch", "on_features", "on_loss", "on_step_end"]
    epoch = ["on_epoch_start", *step, *step, "on_epoch_end"]
    assert seen == ["on_fit_start", *epoch, *epoch, "on_fit_end"]


def test_every_hook_of_a_callback_is_an_event() -> None:
    hooks = {name for name in vars(Callback) if name.startswith("on_")}
    hooks |= {name for name in vars(Monitor) if name.startswith("on_")} - {"on_scalars"}
    assert hooks == {event.value for event in Event}


def test_resampling_without_the_engines_sampler_is_refused() -> None:
    images, model = make_images(96), make_model()
    engine = Engine(model, make_recipe(), n_samples=96, n_classes=3)
    loader = DataLoader(Indexed(images), batch_size=32)
    with pytest.raises(RuntimeError, match="resample.*sampler=engine.sampler"):
        for _ in range(2):
            for index, inputs, targets in loader:
                batch = engine.start_step(index, inputs, targets)
                engine.loss(batch, model(batch.inputs)).backward()
                engine.end_step(batch)
            engine.end_epoch()


def test_logits_of_another_shape_are_refused(images: Images) -> None:
    with pytest.raises(ValueError, match=r"logits of shape \(32, 3\), expected \(32, 5\)"):
        engine = Engine(make_model(), n_samples=240, n_classes=5)
        batch = engine.start_step(
            torch.arange(32), torch.zeros(32, 3, 12, 12), torch.zeros(32).long()
        )
        engine.loss(batch, engine.run.n_classes and make_model()(batch.inputs))


def test_a_callback_may_stop_the_run(images: Images) -> None:
    class Stops(Callback):
        def on_epoch_end(self, run: Run) -> None:
            run.stop("enough")

    trainer = make_trainer([Stops()], images, epochs=5, batch_size=32)
    trainer.fit()
    assert trainer.engine.run.epoch == 1


def test_end_alone_reads_the_bottleneck(images: Images) -> None:
    trainer = make_trainer([ConflictScore(), EnD()], images, epochs=1, batch_size=32)
    assert trainer.engine.taps.names == ["bottleneck", "shallow"]


def test_the_criterion_sees_shifted_logits_and_nobody_else_does() -> None:
    class Shifts(Callback):
        def on_features(self, batch: Batch) -> None:
            assert batch.logits is not None
            batch.shift_logits(self.name, torch.full_like(batch.logits, 2.0).cumsum(1))

    model = make_model()
    engine = Engine(model, [Shifts("a"), Shifts("b")], n_samples=8, n_classes=3)
    batch = engine.start_step(torch.arange(4), make_images(4).images.float(), torch.arange(4) % 3)
    logits = model(batch.inputs)
    loss = engine.loss(batch, logits)
    shifted = logits + torch.tensor([4.0, 8.0, 12.0])
    torch.testing.assert_close(loss, nn.functional.cross_entropy(shifted, batch.targets))
    assert batch.logits is not None and torch.equal(batch.logits, logits)


def test_layers_made_in_setup_are_those_of_the_seed_and_the_name() -> None:
    class Head(Callback):
        def setup(self, run: Run) -> None:
            self.layer = nn.Linear(2, run.values_of("bias_label"))
            run.n_values["bias_label"] = 7

    def made(*names: str, seed: int = 0) -> list[torch.Tensor]:
        model, heads = make_model(), [Head(name) for name in names]
        before = torch.get_rng_state()
        Engine(model, heads, n_samples=8, n_classes=3, seed=seed)
        assert torch.equal(before, torch.get_rng_state())
        return [head.layer.weight for head in heads]

    alone, both = made("a")[0], made("b", "a")
    assert len(alone) == 3 and len(both[0]) == 7  # "a" comes first and told how many there are
    assert torch.equal(alone, both[1])
    assert not torch.equal(alone, made("a", seed=1)[0])


def step(engine: Engine, model: nn.Module, n: int = 4) -> Batch:
    """One step but for its end."""
    batch = engine.start_step(torch.arange(n), make_images(n).images.float(), torch.arange(n) % 3)
    engine.loss(batch, model(batch.inputs)).backward()
    return batch


@pytest.mark.parametrize(
    ("criterion", "found"),
    [
        (nn.CrossEntropyLoss(), r"\(\)"),
        (lambda x, y: nn.functional.cross_entropy(x, y, reduction="none")[:, None], r"\(4, 1\)"),
        (lambda x, y: 0.5, "float"),
    ],
)
def test_a_criterion_that_gives_no_loss_a_row_is_refused(criterion: Any, found: str) -> None:
    model = make_model()
    engine = Engine(model, n_samples=8, n_classes=3, criterion=criterion)
    with pytest.raises(ConfigError, match=f"criterion: of 4 rows it makes {found}, expected"):
        step(engine, model)


def test_steps_that_were_never_closed_are_told_and_one_that_is_given_up_is_not() -> None:
    model = make_model()
    engine = Engine(model, n_samples=8, n_classes=3)
    for _ in range(2):
        batch = step(engine, model)
    with pytest.raises(RuntimeError, match=r"Of 2 steps none was closed; call engine\.end_step"):
        engine.end_epoch()
    engine.end_step(batch)
    engine.end_epoch()
    engine.end_epoch()  # without any step


def test_a_checkpoint_of_another_seed_is_refused() -> None:
    saved = Engine(make_model(), n_samples=8, n_classes=3, seed=3).state_dict()
    engine = Engine(make_model(), n_samples=8, n_classes=3, seed=4)
    with pytest.raises(ValueError, match=r"a run with seed 3, this one has 4; resume with"):
        engine.load_state_dict(saved)


@pytest.mark.parametrize("known", [True, False])
def test_an_optimizer_without_the_callbacks_parameters_is_told(known: bool) -> None:
    model = make_model()
    engine = Engine(model, [BiasProbe(), Reweight()], n_samples=8, n_classes=3)
    optimizer = torch.optim.AdamW(
        [*model.parameters(), *(engine.parameters() if known else [])], fused=True
    )
    for _ in range(2):
        batch = step(engine, model)
        optimizer.step()
        engine.end_step(batch)
    if known:
        engine.end_epoch()
        return
    with pytest.warns(UserWarning, match=r"'bias_probe' has parameters .* engine\.parameters\(\)"):
        engine.end_epoch()


def test_a_closed_engine_leaves_a_model_that_can_be_pickled() -> None:
    model = make_model()
    engine = Engine(model, [ConflictScore(), EnD()], n_samples=8, n_classes=3)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(model)
    engine.close()
    assert pickle.loads(pickle.dumps(model))(torch.zeros(1, 3, 12, 12)).shape == (1, 3)
