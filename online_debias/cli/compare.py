"""`online-debias compare`: the runs of a comparison, then its tables and plots."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from jsonargparse import ArgumentParser
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from online_debias.cli import train
from online_debias.cli.exit_status import run_command
from online_debias.comparison import plots, summary, tables
from online_debias.comparison.grid import Comparison, PlannedRun, planned_runs
from online_debias.comparison.processes import Changed, run_all
from online_debias.errors import ConfigError
from online_debias.runs import results
from online_debias.runtime.checkpoint import check_folder, write_whole
from online_debias.settings.messages import one_sentence
from online_debias.settings.parser import option, read_yaml
from online_debias.training.epoch_selection import select


def command(arguments: Sequence[str], console: Console | None = None) -> bool:
    """Run what is missing, write results.csv, tables and plots; true if a run failed.

    Raises:
        ConfigError: a setting cannot be used, the folder holds something else, or another
            comparison is at work there.
    """
    console = console or Console()
    if {"-h", "--help"} & set(arguments):
        _parser().print_help(sys.stdout)
        return False
    comparison = parse(arguments)
    folder, runs = comparison.run, planned_runs(comparison)
    with _locked(folder):
        if (folder / "results.csv").is_file():
            summary.read(folder / "results.csv")  # refuses what another version wrote
        waiting = [run for run in runs if run.results() is None]
        console.print(f"{len(runs)} runs, {len(runs) - len(waiting)} of them finished; {folder}")
        os.environ["OMP_NUM_THREADS"] = "1"  # read by new processes when they load their libraries
        with _shown(console, comparison, runs, len(runs) - len(waiting)) as changed:
            failed = run_all(waiting, comparison.processes, _train, changed)
        _render(comparison, runs, console)
    for run, reason in failed.items():
        console.print(f"[red]{run.title} failed:[/] {reason}", soft_wrap=True, highlight=False)
    return bool(failed)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="online-debias compare", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="a YAML file with any of these settings")
    parser.add_class_arguments(Comparison)
    return parser


def parse(arguments: Sequence[str]) -> Comparison:
    """Return what a command line compares.

    Raises:
        ConfigError: something cannot be used.
    """
    parser = _parser()
    if path := option(arguments, "--config"):
        read_yaml(path)
    fields = [*Comparison.__dataclass_fields__]
    with one_sentence(fields):
        made = parser.instantiate(parser.parse_args(list(arguments)))
        return Comparison(**{name: made[name] for name in fields})


def _train(folder: Path) -> int:
    """Begin or go on with the run whose settings are in a folder."""
    return run_command(train.command, ["--resume", str(folder)])


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise ConfigError(
            f"Another comparison is at work in {folder}; wait for it or choose another folder "
            "with --run."
        ) from None


@contextmanager
def _shown(
    console: Console, comparison: Comparison, runs: Sequence[PlannedRun], finished: int
) -> Iterator[Changed]:
    """Show the runs at work and, above them, a line for each that has ended."""
    bar = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
    progress = Progress(*bar, console=console, transient=True, refresh_per_second=1)
    task = progress.add_task("", total=len(runs), completed=finished)

    def changed(running: Sequence[PlannedRun], ended: PlannedRun | None) -> None:
        if ended is not None:
            if (found := ended.results()) is not None:
                accuracy = 100 * found.get("accuracy_unbiased", found["accuracy"])
                console.print(f"{ended.title}: {accuracy:.1f} %", highlight=False)
            write_results(comparison, runs)
            progress.advance(task)
        progress.update(task, description=", ".join(run.title for run in running))

    with progress:
        yield changed


def write_results(comparison: Comparison, runs: Sequence[PlannedRun]) -> None:
    """Write results.csv: the finished runs, at the epoch that the selection rule chooses."""
    found = (
        select(finished, run.folder / "metrics.csv", comparison.selection)
        for run in runs
        if (finished := run.results()) is not None
    )
    results.write_csv(comparison.run / "results.csv", found)


def _render(comparison: Comparison, runs: Sequence[PlannedRun], console: Console) -> None:
    folder = comparison.run
    write_results(comparison, runs)
    rows = summary.read(folder / "results.csv")
    if not rows:
        return
    sections = summary.summarize(rows, comparison.selection, comparison.quoted)
    write_whole(folder / "table.md", tables.markdown(sections).encode())
    write_whole(folder / "table.tex", tables.latex(sections).encode())
    for section in sections:
        console.print(tables.terminal(section))
    draw(folder / "plots", sections, runs)
    console.print(
        f"Selection: {comparison.selection}. Numbers in {folder}/results.csv, tables in table.md "
        "and table.tex, pictures in plots/.",
        soft_wrap=True,
    )


def draw(folder: Path, sections: Sequence[summary.Section], runs: Sequence[PlannedRun]) -> None:
    """Draw what there is to see of every data set and ratio.

    Args:
        folder: for the pictures.
        sections: what was found.
        runs: whose metrics.csv has the curves.
    """
    folder.mkdir(exist_ok=True)
    for data in dict.fromkeys(section.data for section in sections):
        of_data = [section for section in sections if section.data == data]
        plots.accuracy_against_ratio(of_data, folder / f"{data}-ratios.png")
    for section in sections:
        own = [cell for cell in runs if (cell.data, cell.ratio) == (section.data, section.ratio)]
        place = own[0].place
        plots.accuracy_against_cost(section, folder / f"{place}-cost.png")
        curves: dict[str, list[Path]] = {}
        for cell in own:
            if (found := cell.results()) is not None:
                name = results.row_name(cell.method, found["oracle"])
                curves.setdefault(name, []).append(cell.folder / "metrics.csv")
        plots.learning_curves(curves, folder / f"{place}-learning.png")
        plots.detection_curves(curves, folder / f"{place}-detection.png")
