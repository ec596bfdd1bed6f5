"""DDB's diffusion model: guidance, training that can be resumed, and images of each class."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from online_debias.data import Images
from online_debias.errors import NonFiniteLossError
from online_debias.offline.ddb.denoiser import Denoiser, drop, guided
from online_debias.offline.ddb.diffusion import Diffusion
from online_debias.offline.ddb.diffusion_training import DiffusionTraining, fit
from online_debias.offline.ddb.step_bar import StepBar
from online_debias.offline.identity import fingerprint
from online_debias.runtime import checkpoint
from tests.conftest import make_images


def tiny(**changed: Any) -> Diffusion:
    settings = {"channels": (8, 8), "steps": 6, "batch_size": 8, "sampling_steps": 2}
    return Diffusion(**{**settings, "save_every": 3, **changed})


def weights(model: torch.nn.Module) -> list[Tensor]:
    return list(model.state_dict().values())


def equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(weights(one), weights(other), strict=True)
    return all(a.equal(b) for a, b in pairs)


class Stop(Exception):
    pass


def stop_at(step: int) -> Callable[..., None]:
    def to(self: StepBar, done: int, note: str = "") -> None:
        if done == step:
            raise Stop

    return to


@pytest.fixture
def train() -> Images:
    return make_images(120)


# The network


def test_guidance_is_a_line_through_both_predictions() -> None:
    conditional, unconditional = torch.tensor([3.0, -1.0]), torch.tensor([1.0, 1.0])
    assert guided(conditional, unconditional, 0).equal(unconditional)
    assert guided(conditional, unconditional, 1).equal(conditional)
    assert guided(conditional, unconditional, 3).equal(torch.tensor([7.0, -5.0]))


def test_the_share_of_withheld_classes() -> None:
    targets, stream = torch.arange(10).repeat(1000), torch.Generator().manual_seed(0)
    condition = drop(targets, 10, 0.1, stream)
    withheld = condition == 10
    assert withheld.double().mean().item() == pytest.approx(0.1, abs=0.01)
    assert condition[~withheld].equal(targets[~withheld])
    assert drop(targets, 10, 0.0, stream).equal(targets)


def test_an_unconditional_pass_only_where_guidance_asks_for_it() -> None:
    model, asked = Denoiser((3, 12, 12), 3, (8, 8)), []

    def note(unet: Any, args: Any, kwargs: Any) -> None:
        asked.append(kwargs["class_labels"].tolist())

    model.unet.register_forward_pre_hook(note, with_kwargs=True)
    targets = torch.tensor([2, 0])
    model.sample(targets, 2, guidance=1.0)
    assert asked == [[2, 0], [2, 0]]
    asked.clear()
    model.sample(targets, 2, guidance=3.0)
    assert asked == [[2, 0], [3, 3]] * 2


@pytest.mark.parametrize("shape", [(1, 9, 14), (3, 12, 12), (3, 5, 5)])
def test_images_of_any_size_come_back_from_padding(shape: tuple[int, int, int]) -> None:
    model = Denoiser(shape, 2, (8, 8), attention=True)
    stream = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, *shape), generator=stream, dtype=torch.uint8)
    assert model._unfold(model._fold(images)).equal(images)
    drawn = model.sample(torch.tensor([0, 1]), 2, generator=stream)
    assert drawn.shape == (2, *shape)
    assert drawn.dtype == torch.uint8


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
def test_a_perfect_network_has_no_loss_and_draws_the_image(prediction: Any) -> None:
    """The network is told what the only image is, and computes what it should say."""
    model = Denoiser((1, 4, 4), 1, (8,), patch=1, prediction=prediction)
    image = torch.randint(0, 256, (1, 1, 4, 4), dtype=torch.uint8)
    clean = image.float() / 127.5 - 1

    def predict(noisy: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        kept = model.noise.alphas_cumprod[time].reshape(-1, 1, 1, 1)
        noise = (noisy - kept.sqrt() * clean) / (1 - kept).sqrt()
        if prediction == "epsilon":
            return noise
        return kept.sqrt() * noise - (1 - kept).sqrt() * clean

    model._predict = predict  # type: ignore[method-assign]
    stream = torch.Generator().manual_seed(0)
    several = image.expand(32, -1, -1, -1)
    assert model.loss(several, torch.zeros(32, dtype=torch.int64), 0.1, stream).item() < 1e-4
    drawn = model.sample(torch.tensor([0]), 10, generator=stream)
    assert (drawn.int() - image.int()).abs().max().item() <= 2


# Training


def test_a_stopped_training_goes_on_bit_for_bit(
    train: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(tiny(), train, tmp_path / "whole", show=False)
    with monkeypatch.context() as patch:
        patch.setattr(StepBar, "to", stop_at(6))  # after the checkpoint of step 3
        with pytest.raises(Stop):
            fit(tiny(), train, tmp_path / "parts", show=False)
    assert checkpoint.load(tmp_path / "parts" / "last.pt")["step"] == 3
    parts = fit(tiny(), train, tmp_path / "parts", show=False)
    assert equal(whole.model, parts.model)
    one = checkpoint.load(tmp_path / "whole" / "last.pt")
    other = checkpoint.load(tmp_path / "parts" / "last.pt")
    assert all(one["model"][name].equal(other["model"][name]) for name in one["model"])
    assert (whole.samples, whole.parameters) == (parts.samples, parts.parameters)
    assert whole.samples == 48
    assert parts.seconds > 0
    again = fit(tiny(), train, tmp_path / "parts", show=False)  # nothing is left to do
    assert equal(again.model, parts.model)
    assert again.seconds == parts.seconds
    assert not equal(whole.model, fit(tiny(), train, tmp_path / "seed", seed=1, show=False).model)


def test_weights_are_averaged_with_a_decay_that_grows(train: Images, tmp_path: Path) -> None:
    run = DiffusionTraining(tiny(ema_decay=0.3), train, tmp_path, torch.device("cpu"), 0)
    expected = [weight.clone() for weight in weights(run.averaged)]
    for step in range(6):
        run.advance()
        decay = min(0.3, (1 + step) / (10 + step))
        pairs = zip(expected, weights(run.model), strict=True)
        expected = [decay * mean + (1 - decay) * now for mean, now in pairs]
    pairs = zip(expected, weights(run.averaged), strict=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)
    assert not equal(run.averaged, run.model)


def test_one_step_is_a_training(train: Images, tmp_path: Path) -> None:
    assert fit(tiny(steps=1), train, tmp_path, show=False).samples == 8


def test_training_reads_no_bias_labels(train: Images, tmp_path: Path) -> None:
    assert train.bias is not None
    shuffled = Images(train.images, train.targets, train.bias.flip(0), train.classes)
    one = fit(tiny(steps=2), train, tmp_path / "one", show=False)
    other = fit(tiny(steps=2), shuffled, tmp_path / "other", show=False)
    assert equal(one.model, other.model)
    assert fingerprint(train) == fingerprint(shuffled)


def test_a_loss_that_is_not_finite_keeps_the_last_checkpoint(
    train: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, calls = Denoiser.loss, []

    def breaks(self: Denoiser, *args: Any) -> Tensor:
        calls.append(1)
        return loss(self, *args) * (torch.nan if len(calls) == 5 else 1)

    monkeypatch.setattr(Denoiser, "loss", breaks)
    with pytest.raises(NonFiniteLossError, match=r"train/loss became nan in step 5"):
        fit(tiny(), train, tmp_path, show=False)
    state = checkpoint.load(tmp_path / "last.pt")
    assert state["step"] == 3
    assert all(tensor.isfinite().all() for tensor in state["model"].values())


def test_tensorboard_has_losses_and_samples(train: Images, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit(tiny(steps=8), train, tmp_path, show=False)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("train/loss")][-1] == 8
    assert [event.step for event in events.Images("diffusion/samples")] == [2, 4, 6, 8]


def test_checkpoints_of_another_run_are_refused(train: Images, tmp_path: Path) -> None:
    fit(tiny(steps=2), train, tmp_path, show=False)
    with pytest.raises(ValueError, match=r"made with lr=0.006, not 0.01; choose another folder"):
        fit(tiny(steps=2, lr=0.01), train, tmp_path, show=False)
    with pytest.raises(ValueError, match="made with seed=0, not 1"):
        fit(tiny(steps=2), train, tmp_path, seed=1, show=False)
    with pytest.raises(ValueError, match="made from another data set; choose another folder or"):
        fit(tiny(steps=2), make_images(120, seed=1), tmp_path, show=False)
    checkpoint.save(tmp_path / "last.pt", {"model": {}})
    with pytest.raises(ValueError, match="not of a diffusion model; choose another folder"):
        fit(tiny(steps=2), train, tmp_path, show=False)


def test_each_class_gets_its_colour(tmp_path: Path) -> None:
    """A model that ignores the class would mix the two colours."""
    stream = torch.Generator().manual_seed(0)
    targets = torch.arange(100) % 2
    levels = torch.tensor([[200, 30, 30], [30, 30, 200]])[targets][:, :, None, None]
    noise = torch.randint(-20, 21, (100, 3, 6, 6), generator=stream)
    data = Images((levels + noise).to(torch.uint8), targets, None, ("red", "blue"))
    settings = tiny(channels=(16,), steps=100, batch_size=16, lr=2e-2, sampling_steps=5)
    trained = fit(settings, data, tmp_path, show=False)
    stream = torch.Generator().manual_seed(0)
    drawn = settings.sample(trained.model, torch.tensor([0, 1]).repeat(20), stream).float()
    redder = drawn[:, 0].mean((1, 2)) > drawn[:, 2].mean((1, 2)) + 60
    bluer = drawn[:, 2].mean((1, 2)) > drawn[:, 0].mean((1, 2)) + 60
    assert redder[::2].double().mean().item() >= 0.9
    assert bluer[1::2].double().mean().item() >= 0.9


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"channels": ()}, r"channels is \[\], expected a number above 0"),
        ({"channels": (8, 0)}, r"channels is \[8, 0\], expected a number above 0"),
        ({"layers": 0}, "layers is 0, expected a number above 0"),
        ({"patch": 0}, "patch is 0, expected a number above 0"),
        ({"steps": 0}, "steps is 0, expected a number above 0"),
        ({"batch_size": 0}, "batch_size is 0, expected a number above 0"),
        ({"lr": -1.0}, "lr is -1.0, expected a number above 0"),
        ({"sampling_steps": 0}, "sampling_steps is 0, expected a number above 0"),
        ({"save_every": 0}, "save_every is 0, expected a number above 0"),
        ({"timesteps": 1}, "timesteps is 1, expected 2 or more"),
        ({"timesteps": 5, "sampling_steps": 6}, "no fewer than the 6 sampling_steps"),
        ({"condition_dropout": 1.0}, "condition_dropout is 1.0, expected 0 or more and below 1"),
        ({"ema_decay": -0.1}, "ema_decay is -0.1, expected 0 or more and below 1"),
        ({"prediction": "x"}, "prediction is 'x', expected v_prediction or epsilon"),
        ({"guidance": float("nan")}, "guidance is nan, expected a finite number >= 0"),
    ],
)
def test_settings_out_of_range(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**changed)


def test_without_diffusers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'online-debias\[ddb\]'"):
        Diffusion()


def test_without_a_terminal_there_are_a_few_lines() -> None:
    text = io.StringIO()
    with StepBar("noise", 100, "it", console=Console(file=text)) as bar:
        for step in range(1, 101):
            bar.to(step, "loss 1.0")
    lines = text.getvalue().splitlines()
    assert len(lines) == 5
    assert lines[-1].startswith("noise  100/100 it  loss 1.0")
    silent = io.StringIO()
    with StepBar("noise", 1, "it", show=False, console=Console(file=silent)) as bar:
        bar.to(1)
    assert silent.getvalue() == ""


def test_the_papers_size_trains_and_draws_at_64_pixels(tmp_path: Path) -> None:
    """Two steps of what the documents give for a GPU, with fewer channels."""
    stream = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (20, 3, 64, 64), generator=stream, dtype=torch.uint8)
    images = Images(pixels, torch.arange(20) % 2, None, ("land", "water"))
    paper = Diffusion(
        channels=(8, 16, 32, 32), layers=2, attention=True, patch=1, prediction="epsilon",
        steps=2, batch_size=2, ema_decay=0.9999, sampling_steps=2, guidance=7.0,
    )  # fmt: skip
    trained = fit(paper, images, tmp_path, show=False)
    drawn = paper.sample(trained.model, torch.tensor([0, 1]))
    assert drawn.shape == (2, 3, 64, 64) and drawn.dtype == torch.uint8
