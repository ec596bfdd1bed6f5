"""`online-debias report`: one page of a finished run."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from online_debias.report.finished import load
from online_debias.report.page import render
from online_debias.runs import shortcut_sentence
from online_debias.runtime.checkpoint import write_whole


def command(
    folder: Path,
    against: Path | None = None,
    output: Path | None = None,
    console: Console | None = None,
) -> None:
    """Write the page, and print the verdict and where the page is.

    Args:
        folder: the run folder.
        against: that of a run to compare with.
        output: the file to write, report.html in the run folder when None.
        console: where to print.

    Raises:
        ConfigError: there is no finished run, or its data or files do not fit it any more.
        OSError: the page cannot be written.
    """
    console = console or Console()
    run = load(folder)
    page = render(run, None if against is None else load(against))
    path = output or folder / "report.html"
    write_whole(path, page.encode(errors="replace"))
    console.print(shortcut_sentence.sentence(run.results), markup=False)
    console.print(f"\nThe report: {path}", markup=False, soft_wrap=True)
