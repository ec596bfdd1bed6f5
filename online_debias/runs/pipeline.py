"""What a method does with its settings: one training run, or several."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from online_debias.data import Images, Source
from online_debias.engine import Callback, Criterion, Monitor
from online_debias.engine.weights import Combine, Normalize
from online_debias.errors import plainly
from online_debias.functional.losses.cross_entropy import cross_entropy
from online_debias.runs.preflight import check_splits
from online_debias.runtime import checkpoint, distributed, seeds
from online_debias.runtime.device import device_of
from online_debias.taps.taps import Tap
from online_debias.training.optimizer import Schedule
from online_debias.training.trainer import Precision, Trainer, memory_format


@dataclass
class Settings:
    """Settings of a run; each is a key in YAML and an option on the command line.

    Args:
        method: name of a recipe; it sets the pipeline, the callbacks and the taps.
        data: the data set, by class.
        model: the network, by class; it is given the number of classes.
        pipeline: what is trained: one run, or the two of a two-step method.
        callbacks: what changes the run, each by class.
        criterion: loss of each row, a function or callable class `(logits, targets) -> losses`.
        taps: name -> module path (or path, pool and reads) of features that callbacks read.
        epochs: passes over the training set.
        batch_size: rows a step.
        lr: peak learning rate.
        weight_decay: decoupled weight decay.
        schedule: of the learning rate.
        precision: bfloat16 runs the model under autocast.
        channels_last: memory format of model and images.
        combine: how weight factors become one weight.
        normalize: scale the weights to mean 1 over the batch, or not.
        clip: bounds of the composed weight, before it is scaled.
        device: where to train; auto takes a GPU if there is one.
        seed: of initial weights and of everything random in training; the data has its own.
        save_every: steps between two checkpoints, beside those at the end of every epoch.
        log_every: steps between two reads of the recorded scalars.
        evaluate_every: epochs between two evaluations; the last epoch always has one.
        patience: end the (last) training after so many evaluations without a better one, by
            accuracy over pseudo-groups of the validation split where the method has a biased view,
            else by plain accuracy on it. A one-cycle schedule is cut short: the learning rate may
            still be high, so train with the constant schedule or take best.pt.
        run: the run folder; runs/<method> by default.
    """

    data: Source
    model: Callable[[int], nn.Module]
    pipeline: Pipeline
    method: str = "online"
    callbacks: list[Callback] = field(default_factory=list)
    criterion: Callable[..., Any] = cross_entropy  # a `Criterion`; the parser reads no more of it
    taps: dict[str, str | Tap] = field(default_factory=dict)
    epochs: int = 12
    batch_size: int = 128
    lr: float = 8e-3
    weight_decay: float = 0.0
    schedule: Schedule = "one-cycle"
    precision: Precision = "float32"
    channels_last: bool = True
    combine: Combine = "product"
    normalize: Normalize = "batch"
    clip: tuple[float, float] = (0.0, math.inf)
    device: str = "auto"
    seed: int = 0
    save_every: int | None = None
    log_every: int = 50
    evaluate_every: int = 1
    patience: int | None = None
    run: Path | None = None

    @property
    def run_folder(self) -> Path:
        """The run folder."""
        return self.run or Path("runs") / self.method


@dataclass
class Fitted:
    """What a pipeline leaves behind.

    Attributes:
        trainers: all trainings, the last one's model is the result.
        detection: auroc and average precision of the method's own score, {} if it has none.
        oracle: whether bias labels were read between trainings; callbacks tell of themselves.
        figures: further numbers for results.json.
    """

    trainers: list[Trainer]
    detection: dict[str, float]
    oracle: bool = False
    figures: dict[str, float | str] = field(default_factory=dict)


@dataclass
class Cost:
    """What a method spends beside its classifiers' trainings.

    Attributes:
        passes: trainings of other models.
        seconds: in those and in what is computed between trainings.
        samples: rows those were trained on.
        parameters: of those models.
    """

    passes: int = 0
    seconds: float = 0.0
    samples: int = 0
    parameters: int = 0


Watch = Callable[[str, Path, Images, int], list[Monitor]]


class Job:
    """Settings with their splits, ready to make trainers.

    Args:
        settings: what to train.
        folder: the run folder; made when the first trainer is ready.
        text: the settings as YAML, for config.yaml.
        watch: makes the monitors of a training, from a title, its folder, images and epochs.
        resume: go on from checkpoints that are there.

    Raises:
        ConfigError: a split cannot be trained or measured on.

    Attributes:
        train: the training set.
        evaluate_on: the other splits by name.
        beside: what the pipeline spends beside its trainers; it adds to it.
    """

    def __init__(
        self, settings: Settings, folder: Path, text: str, watch: Watch, resume: bool
    ) -> None:
        self.settings, self.folder, self._text = settings, folder, text
        self._watch, self._resume = watch, resume
        source = settings.data
        splits = {"train": source.train()}
        for name, images in (("validation", source.validation()), ("test", source.test())):
            if images is not None:
                splits[name] = images
        check_splits(splits)
        # As the trainer wants them, so that it keeps no second copy.
        stored = memory_format(settings.channels_last)
        for name in splits:
            splits[name] = splits[name].to("cpu", stored)
        self.train = splits.pop("train")
        self.evaluate_on = splits
        self.beside = Cost()

    @contextmanager
    def between_trainings(self) -> Iterator[None]:
        """Charge what is done in the block to the method's cost."""
        start = time.perf_counter()
        yield
        self.beside.seconds += time.perf_counter() - start

    def trainer(
        self,
        stage: str = "",
        callbacks: Iterable[Callback] = (),
        *,
        criterion: Criterion | None = None,
        data: Images | None = None,
        start: Mapping[str, Tensor] | None = None,
        lr: float | None = None,
        epochs: int | None = None,
    ) -> Trainer:
        """Return a trainer with fresh weights; it goes on from its checkpoint when resuming.

        Args:
            stage: name of a sub-folder for trainings before the last one, "" for the last.
            callbacks: what changes this training.
            criterion: loss of each row; that of the settings when None.
            data: what to train on; the training set when None.
            start: weights to start from, a model's `state_dict`.
            lr: peak learning rate; that of the settings when None.
            epochs: passes over the data; those of the settings when None.
        """
        settings, folder = self.settings, self.folder / stage
        title = f"{settings.method} ({stage})" if stage else settings.method
        data, epochs = data or self.train, epochs or settings.epochs
        torch.manual_seed(seeds.derive(settings.seed, "weights", stage))
        with plainly():
            model = settings.model(len(self.train.classes))
            if start is not None:
                model.load_state_dict(start)
            trainer = Trainer(
                model,
                data,
                callbacks,
                self._watch(title, folder, data, epochs),
                evaluate_on=self.evaluate_on,
                taps=settings.taps,
                criterion=criterion or settings.criterion,
                epochs=epochs,
                batch_size=settings.batch_size,
                lr=lr or settings.lr,
                weight_decay=settings.weight_decay,
                schedule=settings.schedule,
                precision=settings.precision,
                channels_last=settings.channels_last,
                combine=settings.combine,
                normalize=settings.normalize,
                clip=settings.clip,
                device=device_of(settings.device),
                seed=settings.seed,
                run=folder,
                save_every=settings.save_every,
                log_every=settings.log_every,
                evaluate_every=settings.evaluate_every,
                patience=None if stage else settings.patience,
            )
        if distributed.rank() == 0:
            folder.mkdir(parents=True, exist_ok=True)
            checkpoint.write_whole(self.folder / "config.yaml", self._text.encode())
        if self._resume and (folder / "last.pt").exists():
            with plainly():
                trainer.load_state_dict(checkpoint.load(folder / "last.pt", trainer.device))
        return trainer


class Pipeline(ABC):
    """What a method trains, in which order."""

    @abstractmethod
    def fit(self, job: Job) -> Fitted:
        """Train."""


class OneRun(Pipeline):
    """One ordinary training run, with the callbacks of the settings."""

    def fit(self, job: Job) -> Fitted:
        """Train once."""
        trainer = job.trainer(callbacks=job.settings.callbacks)
        trainer.fit()
        detection: Mapping[str, Any] = {}
        figures: dict[str, float | str] = {}
        for monitor in trainer.engine.monitors:
            detection = getattr(monitor, "quality", detection)
            figures |= monitor.findings()
        for callback in trainer.engine.callbacks:
            figures |= callback.findings()
        return Fitted([trainer], dict(detection), figures=figures)
