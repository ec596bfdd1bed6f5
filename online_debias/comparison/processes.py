"""Runs side by side: a process each, which ends with this one, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from online_debias.comparison.grid import PlannedRun
from online_debias.runtime.checkpoint import write_whole

Changed = Callable[[Sequence[PlannedRun], PlannedRun | None], None]
Train = Callable[[Path], int]


def run_all(
    runs: Sequence[PlannedRun], n_processes: int, train: Train, changed: Changed
) -> dict[PlannedRun, str]:
    """Start or go on with runs, a few at a time; return what went wrong, one line a failed run.

    Runs that share a file are not at work at the same time. A run prints into log.txt in its
    folder.

    Args:
        runs: the runs.
        n_processes: how many at a time, one thread each.
        train: trains the run whose settings are in a folder; returns the exit status. A new
            interpreter imports it, so it is a module's function.
        changed: called with the runs that are running, and the one that has just ended, if one has.
    """
    waiting, failed = list(runs), {}
    running: dict[SpawnProcess, PlannedRun] = {}
    try:
        while waiting or running:
            while len(running) < n_processes and (run := _next(waiting, list(running.values()))):
                waiting.remove(run)
                running[_start(run, train)] = run
                changed(list(running.values()), None)
            wait([process.sentinel for process in running])
            for process in [process for process in running if process.exitcode is not None]:
                run = running.pop(process)
                if process.exitcode:
                    failed[run] = _log_tail(run.folder / "log.txt", process.exitcode)
                changed(list(running.values()), run)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.join()
    return failed


def _next(waiting: Sequence[PlannedRun], running: Sequence[PlannedRun]) -> PlannedRun | None:
    busy = frozenset[str]().union(*(run.shared for run in running))
    return next((run for run in waiting if not run.shared & busy), None)


def _start(run: PlannedRun, train: Train) -> SpawnProcess:
    run.folder.mkdir(parents=True, exist_ok=True)
    write_whole(run.folder / "config.yaml", run.text.encode())
    # A new interpreter: a fork would share the state of torch, and its peak of memory.
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(train, run.folder))
    process.start()
    return process


def _work(train: Train, folder: Path) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with (folder / "log.txt").open("a", buffering=1) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    import torch  # slow to import

    torch.set_num_threads(1)
    raise SystemExit(train(folder))


def _end_with_parent() -> None:
    """Leave when the parent is gone, also by SIGKILL: a run must not go on unseen."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _log_tail(log: Path, status: int) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    message = lines[-1].removeprefix("online-debias: ") if lines else "it said nothing"
    return f"{message} (exit status {status}, see {log})"
