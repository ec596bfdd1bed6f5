"""`online-debias train`: one run, from settings to a run folder."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from online_debias.callbacks.monitors import Detection, MetricsCSV, Progress, TensorBoard
from online_debias.cli import table
from online_debias.data import Images
from online_debias.engine import Monitor
from online_debias.errors import ConfigError, as_config_error
from online_debias.report.samples import remembered
from online_debias.runs import preflight, results, shortcut_sentence
from online_debias.runs.pipeline import PipelineResult, Settings, TrainingJob
from online_debias.runtime import checkpoint, distributed, scores_csv
from online_debias.runtime.checkpoint import check_folder, save_weights
from online_debias.runtime.device import device_of
from online_debias.settings import parser
from online_debias.training.settings import TrainingSettings

# Settings of a run that may be others when it is resumed.
_MAY_CHANGE = {"device", "save_every", "log_every", "evaluate_every", "patience"}


class WatchedJob(TrainingJob):
    """A job whose trainings show their progress and write metrics.csv and TensorBoard's files."""

    def monitors(self, stage: str, data: Images, settings: TrainingSettings) -> list[Monitor]:
        """Return the monitors of a training; with several ranks, only the first has them."""
        if distributed.rank() > 0:
            return []
        detection, folder, method = Detection(), self.folder / stage, self.settings.method
        title = f"{method} ({stage})" if stage else method
        steps = len(data) // settings.batch_size // distributed.world_size()
        return [
            detection,
            MetricsCSV(folder / "metrics.csv"),
            TensorBoard(folder, detection, data, yaml.safe_load(self.text)),
            Progress(settings.epochs, steps, title),
        ]


def train(arguments: Sequence[str]) -> dict[str, Any]:
    """Train as the command line says, and return what results.json holds.

    Raises:
        ConfigError: a setting cannot be used, or the run folder holds another run.
        OSError: the run folder cannot be written.
        NonFiniteLossError: the loss became NaN; the last good checkpoint is kept.
    """
    folder = parser.option(arguments, "--resume")
    if folder is None:
        settings, configuration = parser.parse(arguments)
        return _run(settings, parser.dump(configuration), settings.run_folder, resume=False)
    kept = Path(folder) / "config.yaml"
    if not kept.is_file():
        raise ConfigError(f"There is no run to resume in {folder}: it has no config.yaml.")
    further = parser.without(arguments, "--resume")
    settings, configuration = parser.parse(["--config", str(kept), *further])
    if further:
        _refuse_changes(kept, parser.dump(configuration))
    return _run(settings, kept.read_text(), Path(folder), resume=True)


def _refuse_changes(kept: Path, text: str) -> None:
    """Refuse to go on with other settings, to which the checkpoint does not belong."""
    before, now = yaml.safe_load(kept.read_text()), yaml.safe_load(text)
    for name in before.keys() - _MAY_CHANGE:
        if before[name] != now.get(name):
            raise ConfigError(
                f"--resume goes on with the settings in {kept}, where {name} is {before[name]}, "
                f"not {now.get(name)}; leave --{name} out, or start a new run with --config {kept}."
            )


def _run(settings: Settings, text: str, folder: Path, resume: bool) -> dict[str, Any]:
    with as_config_error():
        device = torch.device(device_of(settings.device))
    with distributed.joined(device):
        return _joined_run(settings, text, folder, resume, device)


def _joined_run(
    settings: Settings, text: str, folder: Path, resume: bool, device: torch.device
) -> dict[str, Any]:
    start = time.perf_counter()
    _check_folder(folder, resume)
    job, result = _fitted(settings, text, folder, resume, device)
    found = results.summarize(job, result, time.perf_counter() - start)
    if distributed.rank() == 0:  # the others train with it, and leave files to it
        _write(job, result, found)
    return found


def _check_folder(folder: Path, resume: bool) -> None:
    """Refuse a folder that is a file, or that holds another run."""
    check_folder(folder)
    if not resume and distributed.rank() == 0 and folder.exists() and any(folder.iterdir()):
        raise ConfigError(
            f"{folder} holds another run; choose another folder with --run, or go on with "
            f"--resume {folder}."
        )


def _fitted(
    settings: Settings, text: str, folder: Path, resume: bool, device: torch.device
) -> tuple[TrainingJob, PipelineResult]:
    """Train; of a run that cannot go on, nothing stays behind."""
    existed = folder.exists()
    try:
        with as_config_error():
            job = WatchedJob(settings, folder, text, resume)
            splits = {"train": job.train, **job.evaluate_on}
            preflight.check_model(settings.model, settings.criterion, splits, device)
        return job, settings.pipeline.fit(job)
    except BaseException as error:
        if distributed.rank() == 0 and not existed and not _of_use(folder, error):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _write(job: TrainingJob, result: PipelineResult, found: dict[str, Any]) -> None:
    """Write what a finished run leaves beside its checkpoints."""
    for trainer in result.trainers:
        if trainer.stop_reason is not None:
            print(f"Training was stopped: {trainer.stop_reason}", file=sys.stderr)
    last = result.trainers[-1]
    with as_config_error():
        file = job.folder / "scores.csv"
        scored, details = remembered(
            last.engine.run.samples, job.train, job.settings.pipeline, file
        )
    if scored is not None:
        scores_csv.write(file, scored, details)
    save_weights(job.folder / "model.safetensors", last.model)
    results.write_json(job.folder / "results.json", found)


def _of_use(folder: Path, error: BaseException) -> bool:
    """Whether a run that failed can go on; one with settings that cannot work only if it began."""
    kept = list(folder.rglob("last.pt"))
    if not isinstance(error, ConfigError):
        return bool(kept)
    states = (checkpoint.load(path) for path in kept)  # other models' know of no engine
    return any("engine" not in x or x["engine"]["progress"]["step"] for x in states)


def command(arguments: Sequence[str]) -> None:
    """Train, and say on the terminal how it went and where to look."""
    if {"-h", "--help"} & set(arguments):
        print(parser.help_text())
        return
    found = train(arguments)
    if int(os.environ.get("RANK", "0")) == 0:
        table.show([found])
        if "shortcut" in found:
            print(shortcut_sentence.sentence(found))
