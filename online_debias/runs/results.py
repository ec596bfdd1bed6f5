"""A finished run in one object: results.json, and rows for a table of several runs."""

from __future__ import annotations

import csv
import io
import json
import platform
import resource
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from online_debias.runs.pipeline import PipelineResult, TrainingJob
from online_debias.runtime.checkpoint import write_whole

COLUMNS = ("method", "data", "ratio", "seed", "metric", "value")


def summarize(job: TrainingJob, fitted: PipelineResult, seconds_total: float) -> dict[str, Any]:
    """Return what results.json holds; accuracies are of the last epoch, on the test split.

    Costs count all trainings: `seconds_training` is time in training and in what a method computes
    between trainings, without evaluations and monitors, `seconds_total` is everything since the
    command was started and, of a resumed run, the training before it; `samples` are rows trained
    on, `training_passes` is the number of trainings, `extra_parameters` those trained beside the
    resulting model's. On the CPU `peak_memory_mb` is that of the process.
    """
    settings, last = job.settings, fitted.trainers[-1]
    conflicting = job.train.conflicting
    source, beside = settings.data, job.beside
    modules = [m for t in fitted.trainers for m in (t.model, *t.engine.callbacks)]
    n_parameters = sum(p.numel() for m in modules for p in m.parameters() if p.requires_grad)
    of_result = sum(p.numel() for p in last.model.parameters() if p.requires_grad)
    return {
        "method": settings.method,
        "data": type(source).__name__,
        "ratio": getattr(source, "rho", None),
        "seed": settings.seed,
        "oracle": fitted.oracle or any(t.engine.oracle for t in fitted.trainers),
        "selection": "last",
        "epochs": settings.epochs,
        "samples": sum(t.samples_seen for t in fitted.trainers) + beside.samples,
        "conflicting_samples": None if conflicting is None else int(conflicting.sum()),
        "seconds_total": round(seconds_total + sum(t.seconds_before for t in fitted.trainers), 3),
        "seconds_training": round(
            sum(t.seconds_training for t in fitted.trainers) + beside.seconds, 3
        ),
        "training_passes": len(fitted.trainers) + beside.passes,
        "extra_parameters": n_parameters - of_result + beside.parameters,
        "peak_memory_mb": round(_peak_memory_mb(last.device)),
        **last.reports["test"].metrics,
        **{f"detect_{name}": value for name, value in fitted.detection.items()},
        **fitted.figures,
        "device": _device_name(last.device),
        "versions": {
            "online-debias": version("online-debias"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "commit": _commit(),
    }


def row_name(method: str, oracle: bool) -> str:
    """Return what a method is called where it is shown; a reader of bias labels is marked."""
    return f"{method} (oracle)" if oracle else method


def write_json(path: Path, results: Mapping[str, Any]) -> None:
    """Write one run's results, whole or not at all."""
    write_whole(path, (json.dumps(results, indent=2) + "\n").encode())


def write_csv(path: Path, runs: Iterable[Mapping[str, Any]]) -> None:
    """Write several runs' numbers in long form, one row a metric."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for run in runs:
        key = [run[name] for name in COLUMNS[:4]]
        for name, value in run.items():
            if name not in COLUMNS and isinstance(value, int | float):
                writer.writerow([*key, name, float(value)])
    write_whole(path, text.getvalue().encode())


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # Linux counts kilobytes


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _commit() -> str | None:
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # installed: whatever repository is around is not ours
        return None
    asked = subprocess.run(
        ["git", "rev-parse", "--verify", "--quiet", "HEAD"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or None
