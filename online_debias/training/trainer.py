"""The training loop, top to bottom, written over the engine's calls."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from online_debias.data.images import Images
from online_debias.engine import Callback, Engine, Monitor
from online_debias.functional.metrics import Report
from online_debias.runtime import checkpoint, distributed, random_state, seeds
from online_debias.runtime.batch_norm import over_ranks
from online_debias.runtime.device import device_of
from online_debias.training.device_loader import DeviceLoader
from online_debias.training.epoch_selection import BestEpoch, check_patience
from online_debias.training.evaluation import measure
from online_debias.training.optimizer import make_optimizer, make_schedule
from online_debias.training.settings import TrainingSettings


class Trainer:
    """Trains one model on one image set, in one run.

    Adam with a one-cycle schedule; the last, incomplete batch of a round is left out. On the CPU,
    and with the same build of torch, a run is reproduced bit for bit, also after a resume. Ranks
    (under torchrun) train as one process would with all their rows, to float rounding.

    Args:
        model: the classifier; moved to the device of the settings.
        train: training images; their bias annotations reach monitors and oracle callbacks only.
        callbacks, monitors: see `Engine`.
        settings: how to train; their defaults when None.
        evaluate_on: split name -> images, evaluated at the end of epochs.
        run: folder for checkpoints, made if it is missing; None writes nothing.

    Raises:
        ValueError: the batch is larger than the data, patience has no validation split to judge
            epochs by, or the engine refuses the callbacks.

    Attributes:
        engine: the engine; it exists before `fit`.
        epochs: where `fit` ends; it may be lowered, the schedule stays that of the settings.
        seconds_training: time spent in training so far, callbacks included; evaluations and
            monitors, which only measure, are not.
        seconds_before: those of them that were spent before the run was resumed.
        samples_seen: rows trained on so far, by all ranks.
        reports, best: split name -> the latest evaluation; what the best epoch so far had.

    Example:
        >>> images = Images(torch.zeros(8, 3, 4, 4).byte(), torch.arange(8) % 2, None, ("a", "b"))
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
        >>> trainer = Trainer(model, images, settings=TrainingSettings(epochs=2, batch_size=4))
        >>> trainer.fit()
        >>> trainer.samples_seen
        16
    """

    def __init__(
        self,
        model: nn.Module,
        train: Images,
        callbacks: Iterable[Callback] = (),
        monitors: Iterable[Monitor] = (),
        *,
        settings: TrainingSettings | None = None,
        evaluate_on: Mapping[str, Images] | None = None,
        run: Path | None = None,
    ) -> None:
        settings = settings or TrainingSettings()
        check_patience(settings.patience, evaluate_on or {})
        self.settings, self.epochs, self.run_folder = settings, settings.epochs, run
        self.device, self.format = torch.device(device_of(settings.device)), settings.memory_format
        model = over_ranks(model, self.device)
        self.model = model.to(self.device, memory_format=self.format)  # type: ignore[call-overload]
        self._forward = self.model
        if distributed.world_size() > 1:
            self._forward = DistributedDataParallel(self.model)
        self.engine = Engine(
            self.model,
            callbacks,
            monitors,
            n_samples=len(train),
            n_classes=len(train.classes),
            bias=train.bias,
            taps=settings.taps,
            criterion=settings.criterion,
            combine=settings.combine,
            normalize=settings.normalize,
            clip=settings.clip,
            seed=settings.seed,
            log_every=settings.log_every,
        )
        sampler = self.engine.sampler()
        if settings.batch_size > len(sampler):
            raise ValueError(
                f"The batch size {settings.batch_size} is larger than the {len(sampler)} training "
                "images; choose a smaller --batch_size."
            )
        self.loader = DeviceLoader(train.to(self.device, self.format), settings.batch_size, sampler)
        self.evaluate_on = {
            name: images.to(self.device, self.format)
            for name, images in (evaluate_on or {}).items()
        }
        steps = self.engine.run.max_steps = settings.epochs * len(self.loader)
        self.optimizer = make_optimizer(
            self.model, self.engine.callbacks, settings.lr, settings.weight_decay
        )
        self.schedule = make_schedule(settings.schedule, self.optimizer, steps)
        self.seconds_training, self.seconds_before, self.samples_seen = 0.0, 0.0, 0
        self.reports: dict[str, Report] = {}
        self.best = BestEpoch()

    def fit(self) -> None:
        """Train to the last epoch, from where a loaded checkpoint left off.

        Raises:
            NonFiniteLossError: the loss became NaN; the last good checkpoint is kept.
            OSError: a checkpoint cannot be written; the one before it is kept.
        """
        if self.engine.run.step == 0:
            run = self.engine.run  # ranks drop out different units of their different rows
            torch.manual_seed(seeds.derive(run.seed, "dropout", run.rank))
            self.save("last.pt")  # shows at once whether the folder can be written
        try:
            while not self._done:
                self._epoch()
                if self._done or self.engine.run.epoch % self.settings.evaluate_every == 0:
                    for split in self.evaluate_on:
                        self.evaluate(split)
                    self._judge()
                self.save("last.pt")
            for split in self.evaluate_on.keys() - self.reports.keys():
                self.evaluate(split)  # a split that the run, over by now, was not asked for
            self.engine.end_fit()
        except BaseException as error:
            self.engine.watch("on_exception", self.engine.run, error)
            self.engine.watch("on_fit_end", self.engine.run)
            raise

    @property
    def _done(self) -> bool:
        run = self.engine.run
        return run.epoch >= self.epochs or self.stop_reason is not None

    @property
    def stop_reason(self) -> str | None:
        """Why training ends before its last epoch: a callback's reason, or no patience is left."""
        patience = self.settings.patience
        if patience is not None and self.best.waited >= patience:
            best = f"{self.best.value:.3f} in {self.best.by} on the validation split"
            return f"no evaluation of the last {patience} was better than {best}"
        return self.engine.run.stop_reason

    def _epoch(self) -> None:
        self.model.train()
        save_every = self.settings.save_every
        start, watching = time.perf_counter(), self.engine.seconds_watching
        for index, images, targets in self.loader:
            self._step(index, images, targets)
            if save_every and self.engine.run.step % save_every == 0:
                self.save("last.pt")
        self.engine.end_epoch()  # reads the records, so it waits for the device
        watching = self.engine.seconds_watching - watching
        self.seconds_training += time.perf_counter() - start - watching

    def _step(self, index: Tensor, images: Tensor, targets: Tensor) -> None:
        bfloat16 = self.settings.precision == "bfloat16"
        batch = self.engine.start_step(index, images, targets)
        with torch.autocast(self.device.type, torch.bfloat16, bfloat16):
            logits = self._forward(batch.inputs)
        loss = self.engine.loss(batch, logits)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        self.engine.end_step(batch)
        self.samples_seen += len(index) * self.engine.run.world_size

    def evaluate(self, split: str) -> Report:
        """Measure a split of `evaluate_on`, and call the monitors with the report."""
        data = self.evaluate_on[split]
        self.reports[split] = measure(split, self.engine, self.model, data, self.format)
        self.engine.watch("on_evaluate", self.reports[split], self.engine.run)
        return self.reports[split]

    def save(self, name: str) -> None:
        """Write a checkpoint to the run folder, if there is one, on rank 0."""
        if self.run_folder is not None:
            state = self.state_dict()  # every rank gives its random state
            if self.engine.run.rank == 0:
                self.run_folder.mkdir(parents=True, exist_ok=True)
                checkpoint.save(self.run_folder / name, state)

    def _judge(self) -> None:
        """Keep the model of the best epoch, and end training when none was better for long."""
        if "validation" not in self.reports:
            return
        better = self.best.better(self.reports["validation"].metrics)
        # Unlike devices round differently: all ranks do as the first does.
        decided = torch.tensor([[better, self.best.waited]], device=self.device)
        better, self.best.waited = distributed.gather_rows(decided)[0].tolist()
        if better:
            self.save("best.pt")

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs to go on bit for bit."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "engine": self.engine.state_dict(),
            "random": random_state.states(self.device),
            "cost": {"seconds": self.seconds_training, "samples": self.samples_seen},
            "best": asdict(self.best),
            "reports": {split: asdict(report) for split, report in self.reports.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned.

        Raises:
            ValueError: the state is of another recipe or model, or is no whole state.
        """
        parts = ["model", "optimizer", "schedule", "engine", "random", "cost", "best", "reports"]
        if missing := [name for name in parts if name not in state]:
            raise ValueError(
                f"The checkpoint has no {', '.join(missing)}; use a whole one of this version."
            )
        self.engine.load_state_dict(state["engine"])
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                "The checkpoint is of another model or recipe; resume with the settings the run "
                f"was started with ({str(error).splitlines()[-1].strip()})"
            ) from error
        self.schedule.load_state_dict(state["schedule"])
        random_state.restore(state["random"], self.device)
        self.seconds_training = self.seconds_before = state["cost"]["seconds"]
        self.samples_seen = state["cost"]["samples"]
        self.best = BestEpoch(**state["best"])
        self.reports = {split: Report(**report) for split, report in state["reports"].items()}
