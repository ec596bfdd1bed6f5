"""What a method does with its settings: one training run, or several."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from online_debias.data import Images, Source
from online_debias.engine import Callback, Monitor
from online_debias.errors import as_config_error
from online_debias.functional.metrics import detection
from online_debias.runs.preflight import check_splits
from online_debias.runtime import checkpoint, distributed, seeds
from online_debias.runtime.device import device_of
from online_debias.training.settings import TrainingSettings
from online_debias.training.trainer import Trainer


@dataclass(frozen=True)
class Settings(TrainingSettings):
    """Settings of a run; each is a key in YAML and an option on the command line.

    Args:
        data: the data set, by class.
        model: the network, by class; it is given the number of classes.
        pipeline: what is trained: one run, or the two of a two-step method.
        method: name of a recipe; it sets the pipeline, the callbacks and the taps.
        callbacks: what changes the run, each by class.
        device: where to train; auto takes a GPU if there is one.
        seed: of initial weights and of everything random in training; the data has its own.
        run: the run folder; runs/<method> by default.
    """

    data: Source
    model: Callable[[int], nn.Module]
    pipeline: Pipeline
    method: str = "online"
    callbacks: list[Callback] = field(default_factory=list)
    _: KW_ONLY
    device: str = "auto"
    seed: int = 0
    run: Path | None = None

    @property
    def run_folder(self) -> Path:
        """The run folder."""
        return self.run or Path("runs") / self.method


@dataclass
class PipelineResult:
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


class TrainingJob:
    """Settings with their splits, ready to make trainers.

    Args:
        settings: what to train.
        folder: the run folder; made when the first trainer is ready.
        text: the settings as YAML, for config.yaml.
        resume: go on from checkpoints that are there.

    Raises:
        ConfigError: a split cannot be trained or measured on.

    Attributes:
        train: the training set.
        evaluate_on: the other splits by name.
        beside: what the pipeline spends beside its trainers; it adds to it.
    """

    def __init__(self, settings: Settings, folder: Path, text: str, resume: bool) -> None:
        self.settings, self.folder, self.text, self._resume = settings, folder, text, resume
        source = settings.data
        splits = {"train": source.train()}
        for name, images in (("validation", source.validation()), ("test", source.test())):
            if images is not None:
                splits[name] = images
        check_splits(splits)
        for name in splits:  # as the trainer wants them, so that it keeps no second copy
            splits[name] = splits[name].to("cpu", settings.memory_format)
        self.train = splits.pop("train")
        self.evaluate_on = splits
        self.beside = Cost()

    @contextmanager
    def between_trainings(self) -> Iterator[None]:
        """Charge what is done in the block to the method's cost."""
        start = time.perf_counter()
        yield
        self.beside.seconds += time.perf_counter() - start

    def monitors(self, stage: str, data: Images, settings: TrainingSettings) -> list[Monitor]:
        """Return the monitors of a training; none, unless a subclass has some."""
        return []

    def trainer(
        self,
        stage: str = "",
        callbacks: Iterable[Callback] = (),
        *,
        settings: TrainingSettings | None = None,
        data: Images | None = None,
        start: Mapping[str, Tensor] | None = None,
    ) -> Trainer:
        """Return a trainer with fresh weights; it goes on from its checkpoint when resuming.

        Args:
            stage: name of a sub-folder for trainings before the last one, "" for the last.
            callbacks: what changes this training.
            settings: how to train; those of the job when None. Patience is for the last training.
            data: what to train on; the training set when None.
            start: weights to start from, a model's `state_dict`.
        """
        settings, data = settings or self.settings, data or self.train
        patience = None if stage else settings.patience
        folder = self.folder / stage
        torch.manual_seed(seeds.derive(settings.seed, "weights", stage))
        with as_config_error():
            model = self.settings.model(len(self.train.classes))
            if start is not None:
                model.load_state_dict(start)
            trainer = Trainer(
                model,
                data,
                callbacks,
                self.monitors(stage, data, settings),
                settings=replace(settings, device=device_of(settings.device), patience=patience),
                evaluate_on=self.evaluate_on,
                run=folder,
            )
        if distributed.rank() == 0:
            folder.mkdir(parents=True, exist_ok=True)
            checkpoint.write_whole(self.folder / "config.yaml", self.text.encode())
        if self._resume and (folder / "last.pt").exists():
            with as_config_error():
                trainer.load_state_dict(checkpoint.load(folder / "last.pt", trainer.device))
        return trainer


class Pipeline(ABC):
    """What a method trains, in which order."""

    @abstractmethod
    def fit(self, job: TrainingJob) -> PipelineResult:
        """Train."""


class OneRun(Pipeline):
    """One ordinary training run, with the callbacks of the settings."""

    def fit(self, job: TrainingJob) -> PipelineResult:
        """Train once."""
        trainer = job.trainer(callbacks=job.settings.callbacks)
        trainer.fit()
        run = trainer.engine.run
        figures: dict[str, float | str] = {}
        scores = run.samples.values("conflict", unless="noise").cpu()
        if known := int((~scores.isnan()).sum()):
            figures["conflicting_share"] = round(int((scores > 0.5).sum()) / known, 6)
        figures |= run.shortcut.figures
        for callback in trainer.engine.callbacks:
            figures |= callback.findings()
        conflicting = job.train.conflicting
        found = {} if conflicting is None else detection(scores, conflicting.cpu())
        return PipelineResult([trainer], found, figures=figures)
