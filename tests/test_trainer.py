"""The trainer: resume is exact, the costs are counted, bad settings are refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from online_debias.callbacks import EnD, Resample
from online_debias.callbacks.monitors import Detection
from online_debias.data import Images
from online_debias.engine import Callback, Monitor
from online_debias.runtime import checkpoint
from online_debias.training.settings import TrainingSettings
from online_debias.training.trainer import Trainer
from tests.conftest import make_images, make_model, make_recipe, make_trainer


class WithDropout(nn.Module):
    """A model whose forward pass draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.net = make_model()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(nn.functional.dropout(images, 0.1, self.training))
        return logits


def trainer(
    images: Images,
    folder: Path | None = None,
    callbacks: list[Callback] | None = None,
    monitors: Sequence[Monitor] = (),
    **settings: Any,
) -> Trainer:
    chosen = {"taps": {"shallow": "net.stage1"}, "epochs": 4, "batch_size": 40}
    return Trainer(
        WithDropout(),
        images,
        make_recipe() if callbacks is None else callbacks,
        [Detection(), *monitors],
        settings=TrainingSettings(**{**chosen, **settings}),
        evaluate_on={"test": make_images(60, 0.33, 1)},
        run=folder,
    )


def steps(one: Trainer, count: int) -> None:
    """Train `count` steps of a round, then stop as a killed process would."""
    one.model.train()
    for _, batch in zip(range(count), one.loader, strict=False):
        one._step(*batch)


def state(one: Trainer) -> dict[str, Tensor]:
    own = {f"model.{k}": v for k, v in one.model.state_dict().items()}
    for callback in one.engine.callbacks:
        tensors = {k: v for k, v in callback.state_dict().items() if isinstance(v, Tensor)}
        own |= {f"{callback.name}.{k}": v for k, v in tensors.items()}
    return own


@pytest.mark.parametrize("stop", [0, 1, 4, 6, 9, 15])
def test_a_resumed_run_equals_one_that_went_through(
    images: Images, tmp_path: Path, stop: int
) -> None:
    whole = trainer(images)
    whole.fit()

    first = trainer(images)
    torch.manual_seed(7)  # what a process had drawn before must not matter
    epochs, rest = divmod(stop, 6)
    first.epochs = epochs
    first.fit()
    steps(first, rest)
    checkpoint.save(tmp_path / "last.pt", first.state_dict())

    second = trainer(images)
    second.load_state_dict(checkpoint.load(tmp_path / "last.pt"))
    second.fit()
    expected, found = state(whole), state(second)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value.nan_to_num(-1), found[name].nan_to_num(-1)), name
    assert second.reports["test"] == whole.reports["test"]
    ours, theirs = (one.engine.run.samples.state_dict() for one in (whole, second))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
    assert second.samples_seen == whole.samples_seen


def test_checkpoints_are_written_every_so_many_steps(images: Images, tmp_path: Path) -> None:
    seen: list[int] = []

    class Looks(Callback):
        def on_batch(self, batch: Any) -> None:
            seen.append(checkpoint.load(tmp_path / "last.pt")["engine"]["progress"]["step"])

    trainer(images, tmp_path, callbacks=[Looks()], save_every=4, epochs=2).fit()
    assert seen == [0, 0, 0, 0, 4, 4, 6, 6, 8, 8, 8, 8]


def judged(run: Path | None = None, callbacks: Sequence[Callback] = (), **settings: Any) -> Trainer:
    """A short run with a validation split, which remembers what that said of each epoch."""
    splits = {"validation": make_images(60, 0.9, 2), "test": make_images(60, 0.33, 1)}
    chosen = {"epochs": 3, "batch_size": 40, **settings}
    one = make_trainer(callbacks, evaluate_on=splits, run=run, **chosen)
    evaluate = one.evaluate

    def remembered(split: str) -> Any:
        report = evaluate(split)
        if split == "validation":
            one.said.append(report.metrics)  # type: ignore[attr-defined]
        return report

    one.said = []  # type: ignore[attr-defined]
    one.evaluate = remembered  # type: ignore[method-assign]
    return one


@pytest.mark.parametrize(
    ("callbacks", "by"), [(list, "accuracy"), (make_recipe, "accuracy_pseudo_unbiased")]
)
def test_the_best_epoch_is_chosen_on_the_validation_split_without_bias_labels(
    tmp_path: Path, callbacks: Any, by: str
) -> None:
    one = judged(tmp_path, callbacks=callbacks(), epochs=5)
    one.fit()
    values = [metrics.get(by, -1.0) for metrics in one.said]  # type: ignore[attr-defined]
    best = checkpoint.load(tmp_path / "best.pt")
    assert best["best"] == {"by": by, "value": max(values), "waited": 0}
    assert best["engine"]["progress"]["epoch"] == 1 + values.index(max(values))
    assert one.best.waited == 4 - values.index(max(values))


def scripted(values: list[float], **settings: Any) -> Trainer:
    """A run whose validation split says `values`, epoch by epoch."""
    one = judged(epochs=len(values), **settings)
    evaluate = one.evaluate

    def told(split: str) -> Any:
        report = evaluate(split)
        report.metrics["accuracy"] = values[one.engine.run.epoch - 1]
        return report

    one.evaluate = told  # type: ignore[method-assign]
    return one


def test_training_ends_when_patience_is_lost() -> None:
    values = [0.5, 0.7, 0.6, 0.8, 0.8, 0.7, 0.9, 0.9]
    one = scripted(values, patience=2)
    one.fit()
    assert one.engine.run.epoch == 6
    reason = "no evaluation of the last 2 was better than 0.800 in accuracy on the validation split"
    assert one.stop_reason == reason
    for patience in (None, 3):
        one = scripted(values, patience=patience)
        one.fit()
        assert (one.engine.run.epoch, one.stop_reason) == (8, None)


def test_a_run_that_is_over_is_not_evaluated_anew(tmp_path: Path) -> None:
    first = judged(tmp_path, epochs=2)
    first.fit()
    second = judged(tmp_path, epochs=2)
    second.load_state_dict(checkpoint.load(tmp_path / "last.pt"))
    second.fit()
    assert second.reports == first.reports and second.reports.keys() == {"validation", "test"}
    assert len(first.said) == 2 and not second.said  # type: ignore[attr-defined]


def test_a_run_that_a_callback_ended_stays_ended(tmp_path: Path) -> None:
    class Enough(Callback):
        def on_epoch_end(self, run: Any) -> None:
            if run.epoch == 1:
                run.stop("enough")

    first = judged(tmp_path, callbacks=[Enough()], epochs=5)
    first.fit()
    second = judged(tmp_path, callbacks=[Enough()], epochs=5)
    second.load_state_dict(checkpoint.load(tmp_path / "last.pt"))
    second.fit()
    assert (second.engine.run.epoch, second.stop_reason) == (2, "enough")


def test_epochs_between_evaluations_only_train(tmp_path: Path) -> None:
    every, rarely = judged(epochs=5), judged(tmp_path, epochs=5, evaluate_every=2)
    every.fit()
    rarely.fit()
    said = every.said  # type: ignore[attr-defined]
    assert rarely.said == [said[1], said[3], said[4]]  # type: ignore[attr-defined]
    for one, other in zip(every.model.parameters(), rarely.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert checkpoint.load(tmp_path / "last.pt")["engine"]["progress"]["epoch"] == 5


def test_a_run_that_stops_early_is_evaluated_where_it_stops() -> None:
    class Enough(Callback):
        def on_epoch_end(self, run: Any) -> None:
            run.stop("enough")

    one = judged(callbacks=[Enough()], epochs=9, evaluate_every=9)
    one.fit()
    assert one.engine.run.epoch == len(one.said) == 1  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"evaluate_every is 0, expected a number above 0\."):
        judged(evaluate_every=0)


@pytest.mark.parametrize("stop", [3, 5, 6])
def test_a_resumed_run_has_as_much_patience_left(tmp_path: Path, stop: int) -> None:
    values = [0.5, 0.7, 0.6, 0.8, 0.8, 0.7, 0.9, 0.9]
    first = scripted(values, patience=2)
    first.epochs = stop
    first.fit()
    checkpoint.save(tmp_path / "last.pt", first.state_dict())
    second = scripted(values, patience=2)
    second.load_state_dict(checkpoint.load(tmp_path / "last.pt"))
    second.fit()
    assert second.engine.run.epoch == 6 and second.stop_reason is not None
    assert "validation" in second.reports


def test_a_checkpoint_of_another_recipe_is_refused(images: Images) -> None:
    saved = trainer(images).state_dict()
    with pytest.raises(
        ValueError,
        match="with callbacks augment, cross_bias_mix, end, noise_score, resample, shortcut_score",
    ):
        trainer(images, callbacks=[]).load_state_dict(saved)
    other = make_trainer(make_recipe(), images, epochs=4, batch_size=40)
    with pytest.raises(ValueError, match="another model or recipe"):
        other.load_state_dict(saved)
    with pytest.raises(ValueError, match="of 240 training samples, the training set has 120"):
        trainer(make_images(120)).load_state_dict(saved)
    del saved["engine"], saved["cost"]
    with pytest.raises(ValueError, match="The checkpoint has no engine, cost; use a whole one"):
        trainer(images).load_state_dict(saved)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 241}, "batch size 241 is larger than the 240 training images"),
        ({"batch_size": 0}, "batch_size is 0, expected a number above 0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"patience": 0}, "patience is 0, expected a number above 0"),
        ({"patience": -2}, "patience is -2"),
        ({"patience": 2}, "patience is 2, but the data has no validation split"),
        ({"callbacks": [Resample(), EnD()]}, "requires the signal"),
        ({"taps": {"shallow": "net.stage9"}}, "no module 'net.stage9'.*net.stage"),
    ],
)
def test_bad_settings_are_refused(images: Images, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trainer(images, **settings)


@pytest.mark.parametrize("channels_last", [True, False])
def test_batches_are_the_images_in_the_memory_format_of_the_model(
    images: Images, channels_last: bool
) -> None:
    one = trainer(images, channels_last=channels_last)
    for index, inputs, targets in one.loader:
        assert torch.equal(inputs, Images.to_float(images.images[index]))
        assert torch.equal(targets, images.targets[index])
        assert inputs.is_contiguous(memory_format=one.format)
        assert inputs.is_contiguous() is not channels_last
    for split in one.evaluate_on.values():
        assert split.images.is_contiguous(memory_format=one.format)


def test_bfloat16_and_contiguous_train_too(images: Images) -> None:
    for settings in ({"precision": "bfloat16"}, {"channels_last": False}):
        one = trainer(images, epochs=2, **settings)
        one.fit()
        assert one.reports["test"].metrics["accuracy"] > 0.2
        assert all(p.dtype == torch.float32 for p in one.model.parameters())


def test_callback_parameters_are_trained_at_their_own_rate(images: Images) -> None:
    class Scale(Callback):
        lr_scale = 0.5

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def on_loss(self, batch: Any) -> None:
            batch.add_loss(self.name, self.scale.square())

    scale = Scale()
    one = trainer(images, callbacks=[scale], epochs=1, schedule="constant", lr=0.1)
    assert one.optimizer.param_groups[1]["lr"] == 0.05
    one.fit()
    assert 0 < scale.scale.item() < 1


@pytest.mark.gpu
def test_the_recipe_trains_on_a_gpu_without_waiting(images: Images) -> None:
    one = trainer(images, device="cuda", epochs=2)
    steps(one, 2)
    torch.cuda.set_sync_debug_mode("error")
    try:
        one._step(*next(iter(one.loader)))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert one.engine.run.step == 3
