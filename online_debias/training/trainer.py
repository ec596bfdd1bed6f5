"""The training loop, top to bottom, written over the engine's calls."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from online_debias.data.images import Images
from online_debias.engine import Callback, Criterion, Engine, Monitor
from online_debias.engine.weights import Combine, Normalize
from online_debias.errors import positive
from online_debias.functional.losses.cross_entropy import cross_entropy
from online_debias.functional.metrics import Report
from online_debias.runtime import checkpoint, distributed, random_state, seeds
from online_debias.runtime.batch_norm import over_ranks
from online_debias.taps.taps import Tap
from online_debias.training.device_loader import DeviceLoader
from online_debias.training.epoch_selection import Best, check_patience
from online_debias.training.evaluation import measure
from online_debias.training.optimizer import Schedule, make_optimizer, make_schedule

Precision = Literal["float32", "bfloat16"]


def memory_format(channels_last: bool) -> torch.memory_format:
    """Return how model and images are stored."""
    return torch.channels_last if channels_last else torch.contiguous_format


class Trainer:
    """Trains one model on one image set, in one run.

    Adam with a one-cycle schedule; the last, incomplete batch of a round is left out. On the CPU,
    and with the same build of torch, a run is reproduced bit for bit, also after a resume. Ranks
    (under torchrun) train as one process would with all their rows, to float rounding.

    Args:
        model: the classifier; moved to `device`.
        train: training images; their bias annotations reach monitors and oracle callbacks only.
        callbacks, monitors, taps, criterion, combine, normalize, clip: see `Engine`.
        evaluate_on: split name -> images, evaluated at the end of epochs.
        evaluate_every: epochs between two evaluations; the last epoch always has one.
        epochs, batch_size: as usual; the batch size is that of one rank.
        lr: peak learning rate.
        weight_decay: decoupled, as in AdamW.
        schedule: of the learning rate, see `optimizer.make_schedule`.
        precision: "bfloat16" runs the model under autocast; losses stay in float32.
        channels_last: memory format of model and images.
        device: where to train.
        seed: of everything random here, except the model's initial weights.
        run: folder for checkpoints, made if it is missing; None writes nothing.
        save_every: steps between two checkpoints, beside those at the end of every epoch.
        log_every: steps between two reads of the recorded scalars.
        patience: end training after so many evaluations without a better one, by
            `selection.Best`; None trains all epochs. It cuts a one-cycle schedule short, before
            its rates are small.

    Raises:
        ValueError: a setting is out of range, or the batch is larger than the data.

    Attributes:
        engine: the engine; it exists before `fit`.
        seconds_training: time spent in training so far, callbacks included; evaluations and
            monitors, which only measure, are not.
        seconds_before: those of them that were spent before the run was resumed.
        samples_seen: rows trained on so far, by all ranks.
        reports, best: split name -> the latest evaluation; what the best epoch so far had.
    """

    def __init__(
        self,
        model: nn.Module,
        train: Images,
        callbacks: Iterable[Callback] = (),
        monitors: Iterable[Monitor] = (),
        *,
        evaluate_on: Mapping[str, Images] | None = None,
        evaluate_every: int = 1,
        taps: Mapping[str, str | Tap] | None = None,
        criterion: Criterion = cross_entropy,
        epochs: int = 12,
        batch_size: int = 128,
        lr: float = 8e-3,
        weight_decay: float = 0.0,
        schedule: Schedule = "one-cycle",
        precision: Precision = "float32",
        channels_last: bool = True,
        combine: Combine = "product",
        normalize: Normalize = "batch",
        clip: tuple[float, float] = (0.0, math.inf),
        device: torch.device | str = "cpu",
        seed: int = 0,
        run: Path | None = None,
        save_every: int | None = None,
        log_every: int = 50,
        patience: int | None = None,
    ) -> None:
        positive(epochs=epochs, batch_size=batch_size, lr=lr)
        positive(log_every=log_every, evaluate_every=evaluate_every)
        if save_every is not None:
            positive(save_every=save_every)
        check_patience(patience, evaluate_on or {})
        self.device = torch.device(device)
        self.epochs, self.precision, self.run_folder = epochs, precision, run
        self.save_every, self.patience = save_every, patience
        self.evaluate_every = evaluate_every
        self.format = memory_format(channels_last)
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
            taps=taps,
            criterion=criterion,
            bias=train.bias,
            combine=combine,
            normalize=normalize,
            clip=clip,
            seed=seed,
            log_every=log_every,
        )
        sampler = self.engine.sampler()
        if batch_size > len(sampler):
            raise ValueError(
                f"The batch size {batch_size} is larger than the {len(sampler)} training images; "
                "choose a smaller --batch_size."
            )
        self.loader = DeviceLoader(train.to(self.device, self.format), batch_size, sampler)
        self.evaluate_on = {
            name: images.to(self.device, self.format)
            for name, images in (evaluate_on or {}).items()
        }
        steps = self.engine.run.max_steps = epochs * len(self.loader)
        self.optimizer = make_optimizer(self.model, self.engine.callbacks, lr, weight_decay)
        self.schedule = make_schedule(schedule, self.optimizer, steps)
        self.seconds_training, self.seconds_before, self.samples_seen = 0.0, 0.0, 0
        self.reports: dict[str, Report] = {}
        self.best = Best()

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
                if self._done or self.engine.run.epoch % self.evaluate_every == 0:
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
        if self.patience is not None and self.best.waited >= self.patience:
            best = f"{self.best.value:.3f} in {self.best.by} on the validation split"
            return f"no evaluation of the last {self.patience} was better than {best}"
        return self.engine.run.stop_reason

    def _epoch(self) -> None:
        self.model.train()
        start, watching = time.perf_counter(), self.engine.seconds_watching
        for index, images, targets in self.loader:
            self._step(index, images, targets)
            if self.save_every and self.engine.run.step % self.save_every == 0:
                self.save("last.pt")
        self.engine.end_epoch()  # reads the records, so it waits for the device
        watching = self.engine.seconds_watching - watching
        self.seconds_training += time.perf_counter() - start - watching

    def _step(self, index: Tensor, images: Tensor, targets: Tensor) -> None:
        batch = self.engine.start_step(index, images, targets)
        with torch.autocast(self.device.type, torch.bfloat16, self.precision == "bfloat16"):
            logits = self._forward(batch.inputs)
        loss = self.engine.loss(batch, logits)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        self.engine.end_step(batch)
        self.samples_seen += len(index) * self.engine.run.world_size

    def evaluate(self, split: str) -> Report:
        """Measure a split of `evaluate_on` and tell the monitors."""
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
        self.best = Best(**state["best"])
        self.reports = {split: Report(**told) for split, told in state["reports"].items()}
