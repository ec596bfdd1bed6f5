"""How far a loop of steps is, on the terminal."""

from __future__ import annotations

import time
from types import TracebackType

from rich import progress
from rich.console import Console

LINES = 5  # printed where there is no terminal


class StepBar:
    """A progress bar with the time that is left; where there is no terminal, a line now and then.

    Args:
        title: what is going on.
        total: steps, more than those done when it starts.
        unit: what a step is called.
        show: draw at all.
        console: where to draw; standard error by default.

    Example:
        >>> with StepBar("sampling", 10, "images", show=False) as bar:
        ...     bar.to(10)
    """

    def __init__(
        self, title: str, total: int, unit: str, show: bool = True, console: Console | None = None
    ) -> None:
        self.title, self.total, self.unit, self.show = title, total, unit, show
        self.console = console or Console(stderr=True)
        self._drawn = show and self.console.is_interactive
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=20),
            progress.MofNCompleteColumn(),
            progress.TextColumn(unit),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[note]}", markup=False, style="dim"),
            console=self.console,
            disable=not self._drawn,
        )
        self._lines, self._since = 0, 0.0

    def __enter__(self) -> StepBar:
        self._since = time.perf_counter()
        self._task = self._bar.add_task(self.title, total=self.total, note="")
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def to(self, done: int, note: str = "") -> None:
        """Show that `done` steps are done."""
        self._bar.update(self._task, completed=done, note=note)
        if self.show and not self._drawn and done * LINES // self.total > self._lines:
            self._lines = done * LINES // self.total
            seconds = time.perf_counter() - self._since
            line = f"{self.title}  {done}/{self.total} {self.unit}  {note}  {seconds:.1f} s"
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)
