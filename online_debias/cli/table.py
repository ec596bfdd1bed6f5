"""Finished runs side by side, on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from online_debias.runs.results import row_name

COLUMNS = {
    "accuracy": "accuracy",  # where no run has the next: it is its mean over images, not groups
    "accuracy_unbiased": "unbiased",
    "accuracy_worst_group": "worst",
    "accuracy_aligned": "aligned",
    "accuracy_conflicting": "conflicting",
    "detect_auroc": "AUROC",
    "detect_average_precision": "AP",
    "training_passes": "trainings",
    "seconds_training": "seconds",
}


def show(runs: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print one row a run: test accuracies of its last epoch, detection, and what it cost."""
    shown = [name for name in COLUMNS if any(name in run for run in runs)]
    if "accuracy_unbiased" in shown:
        shown.remove("accuracy")
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("method", overflow="fold")  # rather than to cut numbers off
    for name in shown:
        table.add_column(COLUMNS[name], justify="right", no_wrap=True)
    for run in runs:
        name = row_name(run["method"], run["oracle"])
        table.add_row(name, *(_cell(run.get(column)) for column in shown))
    console = console or Console()
    console.print("[italic]Test accuracy after the last epoch[/italic]")
    console.print(table)


def _cell(value: float | int | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return str(value)
    return f"{value:.1f}" if value > 1 else f"{value:.3f}"
