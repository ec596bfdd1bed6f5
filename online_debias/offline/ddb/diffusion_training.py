"""One training of a diffusion model, which goes on where it was stopped."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from online_debias.data.images import Images
from online_debias.memory.recorder import Recorder
from online_debias.offline.ddb.denoiser import Denoiser
from online_debias.offline.ddb.diffusion import Diffusion
from online_debias.offline.ddb.step_bar import StepBar
from online_debias.offline.identity import check_same, fingerprint
from online_debias.runtime import checkpoint, seeds
from online_debias.training.image_grid import grid

SHOWN = 10  # classes in the image grid of TensorBoard
READ_EVERY = 20  # steps between two reads of the loss, each of which waits for the device


@dataclass(frozen=True)
class Trained:
    """A diffusion model, and what it cost.

    Attributes:
        model: its averaged weights, on the training device.
        seconds: spent in training.
        samples: images trained on, each as often as it was drawn.
        parameters: of the network.
    """

    model: Denoiser
    seconds: float
    samples: int
    parameters: int


class DiffusionTraining:
    """Weights, their average and the optimizer of a diffusion model that is being trained.

    Args:
        settings: of the model and its training.
        train: the images; their bias annotations are not read.
        folder: for the checkpoint `last.pt` and TensorBoard's files.
        device: where to train.
        seed: of weights, data order and noise.

    Attributes:
        model: the network that is trained.
        averaged: the moving average of its weights.
        step: steps that are done.
        seconds: spent in them.

    Example:
        >>> import tempfile
        >>> from online_debias.offline import Diffusion
        >>> shape, targets = (20, 1, 4, 4), torch.arange(20) % 2
        >>> images = Images(torch.zeros(shape, dtype=torch.uint8), targets, None, ("a", "b"))
        >>> settings = Diffusion(channels=(8,), steps=2, batch_size=4, sampling_steps=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     training = DiffusionTraining(settings, images, Path(folder), torch.device("cpu"), 0)
        ...     training.finish(StepBar("diffusion", 2, "it", show=False)).samples
        8
    """

    def __init__(
        self, settings: Diffusion, train: Images, folder: Path, device: torch.device, seed: int
    ) -> None:
        self.settings, self.data, self.folder = settings, train.to(device), folder
        self.device, self.seed, self.classes = device, seed, len(train.classes)
        channels, height, width = train.images.shape[1:]
        with seeds.fixed(seed, "diffusion", "weights"):
            model = Denoiser((channels, height, width), self.classes, **settings.network)
        self.model: Denoiser = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=settings.lr, fused=True)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, settings.lr, total_steps=settings.steps, cycle_momentum=False
        )
        self.identity = {"seed": seed, "data": fingerprint(train), **settings.training}
        self.recorder = Recorder(device)
        self.step, self.seconds = 0, 0.0

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one.

        Raises:
            ValueError: it is of other settings or data, or damaged.
        """
        path = self.folder / "last.pt"
        if not path.exists():
            return
        state = checkpoint.load(path, self.device)
        if "identity" not in state:
            raise ValueError(f"{path} is not of a diffusion model; choose another folder.")
        check_same(path, state["identity"], self.identity)
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.step, self.seconds = state["step"], state["seconds"]

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "identity": self.identity,
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        checkpoint.save(self.folder / "last.pt", state)

    def finish(self, bar: StepBar) -> Trained:
        """Do the steps that are left, with a checkpoint now and then.

        Raises:
            NonFiniteLossError: the loss became NaN; the last good checkpoint is kept.
            OSError: a checkpoint cannot be written; the one before it is kept.
        """
        if self.step < self.settings.steps:
            self._loop(bar)
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        samples = self.step * self.settings.batch_size
        return Trained(self.averaged, self.seconds, samples, parameters)

    def _loop(self, bar: StepBar) -> None:
        steps, every = self.settings.steps, self.settings.save_every
        quarter = -(-steps // 4)
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        self.folder.mkdir(parents=True, exist_ok=True)
        purge = self.step + 1 if self.step else None  # written after the checkpoint
        with bar, SummaryWriter(str(self.folder), purge_step=purge) as writer:
            self.model.train()
            since = time.perf_counter()
            while self.step < steps:
                self.advance()
                last = self.step == steps
                saves = last or self.step % every == 0
                shows = last or self.step % quarter == 0
                if not (saves or shows or self.step % READ_EVERY == 0):
                    continue
                scalars = self.recorder.flush()  # refuses what is not finite
                self.seconds += time.perf_counter() - since
                for scalar in scalars:
                    writer.add_scalar(scalar.name, scalar.value, scalar.step)
                bar.to(self.step, f"loss {scalars[0].value:.3f}")
                if saves:
                    self.save()
                if shows:
                    writer.add_image("diffusion/samples", self._samples(), self.step)
                since = time.perf_counter()

    def advance(self) -> None:
        """Do one step: of the optimizer, its schedule and the average."""
        # A stream for each step: a resumed run draws what an uninterrupted one would.
        stream = seeds.generator(self.device, self.seed, "diffusion", self.step)
        size = (self.settings.batch_size,)
        index = torch.randint(len(self.data), size, generator=stream, device=self.device)
        images, targets = self.data.images[index], self.data.targets[index]
        loss = self.model.loss(images, targets, self.settings.condition_dropout, stream)
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        decay = min(self.settings.ema_decay, (1 + self.step) / (10 + self.step))
        weights = list(self.averaged.parameters()), list(self.model.parameters())
        get_ema_multi_avg_fn(decay)(*weights, None)
        self.step += 1
        self.recorder.add(self.step, 0, "train/loss", loss.detach())
        self.recorder.add(self.step, 0, "train/gradient_norm", norm)

    def _samples(self) -> Tensor:
        targets = torch.arange(min(self.classes, SHOWN)).repeat_interleave(4)
        stream = seeds.generator("cpu", self.seed, "diffusion", "shown")
        return grid(self.settings.sample(self.averaged, targets, stream).cpu(), columns=4)


def fit(
    settings: Diffusion,
    train: Images,
    folder: Path,
    device: torch.device | str = "cpu",
    seed: int = 0,
    title: str = "diffusion",
    show: bool = True,
) -> Trained:
    """Train, or go on from `last.pt` in the folder.

    Args:
        settings: of the model and its training.
        train: the images; their bias annotations are not read.
        folder: for the checkpoint and TensorBoard's files.
        device: where to train.
        seed: of weights, data order and noise.
        title: name of the training on the terminal.
        show: draw progress on the terminal.

    Raises:
        ValueError: `last.pt` is of other settings or data, or damaged.
        NonFiniteLossError: the loss became NaN; the last good checkpoint is kept.
        OSError: a checkpoint cannot be written; the one before it is kept.
    """
    run = DiffusionTraining(settings, train, Path(folder), torch.device(device), seed)
    run.resume()
    return run.finish(StepBar(title, settings.steps, "it", show))
