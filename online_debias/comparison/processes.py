"""Runs side by side: a process each, which ends with this one, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from online_debias.comparison.grid import Cell
from online_debias.runtime.checkpoint import write_whole

Changed = Callable[[Sequence[Cell], Cell | None], None]
Train = Callable[[Path], int]


def run_all(
    cells: Sequence[Cell], n_processes: int, train: Train, changed: Changed
) -> dict[Cell, str]:
    """Start or go on with runs, a few at a time; return what went wrong, one line a failed run.

    Runs that share a file are not at work at the same time. A run prints into log.txt in its
    folder.

    Args:
        cells: the runs.
        n_processes: how many at a time, one thread each.
        train: trains the run whose settings are in a folder; returns the exit status. A new
            interpreter imports it, so it is a module's function.
        changed: is told the runs at work, and the one that has just ended, if one has.
    """
    waiting, failed = list(cells), {}
    at_work: dict[SpawnProcess, Cell] = {}
    try:
        while waiting or at_work:
            while len(at_work) < n_processes and (cell := _next(waiting, list(at_work.values()))):
                waiting.remove(cell)
                at_work[_start(cell, train)] = cell
                changed(list(at_work.values()), None)
            wait([process.sentinel for process in at_work])
            for process in [process for process in at_work if process.exitcode is not None]:
                cell = at_work.pop(process)
                if process.exitcode:
                    failed[cell] = _last_words(cell.folder / "log.txt", process.exitcode)
                changed(list(at_work.values()), cell)
    finally:
        for process in at_work:
            process.terminate()
        for process in at_work:
            process.join()
    return failed


def _next(waiting: Sequence[Cell], at_work: Sequence[Cell]) -> Cell | None:
    busy = frozenset[str]().union(*(cell.shared for cell in at_work))
    return next((cell for cell in waiting if not cell.shared & busy), None)


def _start(cell: Cell, train: Train) -> SpawnProcess:
    cell.folder.mkdir(parents=True, exist_ok=True)
    write_whole(cell.folder / "config.yaml", cell.text.encode())
    # A new interpreter: a fork would share the state of torch, and its peak of memory.
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(train, cell.folder))
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


def _last_words(log: Path, status: int) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    said = lines[-1].removeprefix("online-debias: ") if lines else "it said nothing"
    return f"{said} (exit status {status}, see {log})"
