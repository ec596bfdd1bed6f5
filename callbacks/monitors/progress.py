"""Show how far training is and how its bias develops, on the terminal."""

from __future__ import annotations

import atexit
import time
from collections.abc import Sequence

from rich import progress
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from torch import Tensor

from online_debias.engine import Batch, Monitor, Run
from online_debias.functional.metrics import Report
from online_debias.memory.recorder import Scalar

DIGITS = {"shortcut": 2, "ms/step": 1}  # after the point; 3 where nothing is said
NAMES = {
    "train/loss": "loss",
    "test/accuracy": "accuracy",
    "test/accuracy_unbiased": "unbiased",
    "test/accuracy_worst_group": "worst",
    "test/accuracy_conflicting": "conflicting",
    "detect/auroc": "AUROC",
    "detect/average_precision": "AP",
    "detect/share_flagged": "flagged",
    "shortcut/evidence": "shortcut",
    "weights/ess": "ESS",
    "time/step_ms": "ms/step",
}


class Progress(Monitor):
    """A progress bar and, under it, the latest loss, group accuracies and detection quality.

    On a terminal both are redrawn in place, on standard error; elsewhere, and on a dumb terminal,
    each epoch prints one line. Colours follow `NO_COLOR`. What a run does not measure is left out:
    the plain test accuracy stands where group accuracies are not known. "shortcut" is the evidence,
    between 0 and 1, that there is one.

    Args:
        epochs: epochs of the whole run.
        steps_per_epoch: optimizer steps an epoch.
        title: name of the run, shown before the bar.
        console: where to draw; standard error by default.

    Example:
        >>> import sys
        >>> monitor = Progress(8, 100, "online", Console(file=sys.stdout))
    """

    def __init__(
        self,
        epochs: int,
        steps_per_epoch: int,
        title: str = "online",
        console: Console | None = None,
    ) -> None:
        self.epochs, self.steps_per_epoch, self.title = epochs, steps_per_epoch, title
        self.console = console or Console(stderr=True)
        self.values: dict[str, float] = {}
        self._live: Live | None = None
        self._line: str | None = None  # of the epoch that ended, until its evaluation is known
        self._since = 0.0

    def on_fit_start(self, run: Run) -> None:
        """Start to draw, if this is a terminal."""
        self.values, self._line, self._since = {}, None, time.perf_counter()
        if not self.console.is_interactive:
            return
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=20),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            _Speed(),
            console=self.console,
        )
        total = self.epochs * self.steps_per_epoch
        self._task = self._bar.add_task(self._epoch(run), total=total, completed=run.step)
        self._live = Live(get_renderable=self._render, console=self.console, refresh_per_second=4)
        self._live.start()
        atexit.register(self._stop)  # a loop that was interrupted leaves no hidden cursor

    def on_epoch_start(self, run: Run) -> None:
        """Show the epoch's number."""
        self._print()
        self._since = time.perf_counter()
        if self._live is not None:
            self._bar.update(self._task, description=self._epoch(run))

    def on_step_end(self, batch: Batch, bias: Tensor | None, run: Run) -> None:
        """Move the bar."""
        if self._live is not None:
            self._bar.update(self._task, completed=run.step + 1)

    def on_scalars(self, scalars: Sequence[Scalar], run: Run) -> None:
        """Show what was recorded."""
        self.values.update({scalar.name: scalar.value for scalar in scalars})

    def on_evaluate(self, report: Report, run: Run) -> None:
        """Show the evaluation of the test split."""
        self.values.update({f"{report.split}/{k}": value for k, value in report.metrics.items()})

    def on_epoch_end(self, run: Run) -> None:
        """Note the epoch; its line is printed when its evaluation is there."""
        # What is measured of scores comes after this, unless nothing is known of them any more.
        self.values = {tag: x for tag, x in self.values.items() if not tag.startswith("detect/")}
        if self._live is None:
            self._line = f"{time.perf_counter() - self._since:.1f} s"
            self._head = self._epoch(run)

    def on_exception(self, run: Run, error: BaseException) -> None:
        """Leave the terminal as it was."""
        self._print()
        self._stop()

    def on_fit_end(self, run: Run) -> None:
        """Draw for the last time."""
        self._print()
        self._stop()

    def _epoch(self, run: Run) -> str:
        return f"{self.title}  epoch {min(run.epoch + 1, self.epochs)}/{self.epochs}"

    def _shown(self) -> dict[str, str]:
        values = dict(self.values)
        if "test/accuracy_unbiased" in values:
            values.pop("test/accuracy", None)
        return {
            name: f"{values[tag]:.{DIGITS.get(name, 3)}f}"
            for tag, name in NAMES.items()
            if tag in values
        }

    def _render(self) -> Group:
        table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
        shown = self._shown()
        for name in shown:
            table.add_column(name, no_wrap=True)
        table.add_row(*shown.values())
        return Group(self._bar, table) if shown else Group(self._bar)

    def _print(self) -> None:
        if self._line is None:
            return
        shown = [f"{name} {value}" for name, value in self._shown().items() if name != "ms/step"]
        line = "  ".join([self._head, *shown, self._line])
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)
        self.values, self._line = {}, None  # the next line shows its own epoch only

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
            atexit.unregister(self._stop)


class _Speed(progress.ProgressColumn):
    def render(self, task: progress.Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.0f} it/s", style="progress.data.speed")
