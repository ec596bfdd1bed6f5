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

from online_debias import config, distributed, results
from online_debias.callback import Monitor
from online_debias.callbacks.monitors import Detection, MetricsCSV, Progress, TensorBoard
from online_debias.checkpoint import save_weights
from online_debias.commands import table
from online_debias.data import Images
from online_debias.device import device_of
from online_debias.errors import ConfigError, plainly
from online_debias.pipeline import Job, Settings


def train(arguments: Sequence[str]) -> dict[str, Any]:
    """Train as the command line says, and return what results.json holds.

    Raises:
        ConfigError: a setting cannot be used, or the run folder holds another run.
        OSError: the run folder cannot be written.
        NonFiniteLossError: the loss became NaN; the last good checkpoint is kept.
    """
    folder = config.option(arguments, "--resume")
    if folder is None:
        settings, configuration = config.parse(arguments)
        return _run(settings, config.dump(configuration), settings.run_folder, resume=False)
    kept = Path(folder) / "config.yaml"
    if not kept.is_file():
        raise ConfigError(f"There is no run to resume in {folder}: it has no config.yaml.")
    settings, _ = config.parse(["--config", str(kept), *config.without(arguments, "--resume")])
    return _run(settings, kept.read_text(), Path(folder), resume=True)


def _run(settings: Settings, text: str, folder: Path, resume: bool) -> dict[str, Any]:
    with plainly():
        device = torch.device(device_of(settings.device))
    with distributed.joined(device):
        return _joined_run(settings, text, folder, resume)


def _joined_run(settings: Settings, text: str, folder: Path, resume: bool) -> dict[str, Any]:
    writes = distributed.rank() == 0  # the others train with it, and leave files to it
    if writes and not resume and folder.exists() and any(folder.iterdir()):
        raise ConfigError(
            f"{folder} holds another run; choose another folder with --run, or go on with "
            f"--resume {folder}."
        )
    start, existed = time.perf_counter(), folder.exists()
    shown, ranks = yaml.safe_load(text), distributed.world_size()

    def watch(title: str, place: Path, images: Images, epochs: int) -> list[Monitor]:
        if not writes:
            return []
        detection = Detection()
        return [
            detection,
            MetricsCSV(place / "metrics.csv"),
            TensorBoard(place, detection, images, shown),
            Progress(epochs, len(images) // settings.batch_size // ranks, title),
        ]

    try:
        with plainly():
            job = Job(settings, folder, text, watch, resume)
        fitted = settings.pipeline.fit(job)
    except BaseException:
        if writes and not existed and not any(folder.rglob("last.pt")):
            shutil.rmtree(folder, ignore_errors=True)  # nothing in it is of use
        raise
    found = results.summarize(job, fitted, time.perf_counter() - start)
    if not writes:
        return found
    for trainer in fitted.trainers:
        if trainer.engine.run.stop_reason is not None:
            print(f"Training was stopped: {trainer.engine.run.stop_reason}", file=sys.stderr)
    save_weights(folder / "model.safetensors", fitted.trainers[-1].model)
    results.write_json(folder / "results.json", found)
    return found


def command(arguments: Sequence[str]) -> None:
    """Train, and say on the terminal how it went and where to look."""
    if {"-h", "--help"} & set(arguments):
        config.parser().print_help(sys.stdout)
        return
    found = train(arguments)
    if int(os.environ.get("RANK", "0")) == 0:
        table.show([found])
