"""`online-debias score`: which training samples of a finished run look bias-conflicting."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from online_debias.data import Images
from online_debias.report.finished import Finished, load
from online_debias.report.groups import pseudo_groups
from online_debias.report.naming import name_of, seen_as, suspected, top
from online_debias.report.samples import collect
from online_debias.runs import shortcut_sentence
from online_debias.runtime import scores_csv
from online_debias.runtime.scores_csv import Details, Scores

TOP, NAME = 10, 34  # samples listed; characters of a sample's name


def command(folder: Path, output: Path | None = None, console: Console | None = None) -> None:
    """Write scores.csv, and print the verdict, each class's share and the most suspicious samples.

    Args:
        folder: the run folder.
        output: the file to write, scores.csv in the run folder when None.
        console: where to print.

    Raises:
        ConfigError: there is no finished run, or its data or files do not fit it any more.
        OSError: the file cannot be written.
    """
    console = console or Console()
    run = load(folder)
    found, details, afterwards = collect(run)
    path = output or folder / "scores.csv"
    scores_csv.write(path, found, details)
    _show(console, run, found, details, afterwards)
    console.print(f"\nAll {len(run.train):,} samples: {path}", markup=False, soft_wrap=True)


def _show(
    console: Console, run: Finished, found: Scores, details: Details, afterwards: bool
) -> None:
    console.print(shortcut_sentence.sentence(run.results), markup=False)
    if afterwards:
        console.print(
            f"\nThe method {run.settings.method} has no score of its own: these were made after "
            "training, of the finished model's features.",
            markup=False,
        )
    if not bool(found.score.isnan().all()):
        console.print("\nSamples with a score above 1/2, by class")
        console.print(_classes(run.train, found, details))
    if suspects := top(found.score, TOP):
        console.print("\nThe most suspicious samples")
        console.print(_suspects(suspects, run.train, found))
    else:
        console.print("\nNo sample looks bias-conflicting at all.")
    if noisy := suspected(details.noise, run.results):
        console.print(f"\nSuspected of a wrong label: {len(noisy):,} samples, led by")
        console.print(_noisy(noisy, run.train, details))


def _classes(images: Images, found: Scores, details: Details) -> Table:
    table = _table([], ["samples", "conflicting", "share"])
    for group in pseudo_groups(found, details, images.classes):
        share = "-" if group.share is None else f"{group.share:.1%}"
        table.add_row(_short(group.name), f"{group.samples:,}", f"{group.conflicting:,}", share)
    return table


def _suspects(places: list[int], images: Images, found: Scores) -> Table:
    table = _table(["class", "looks like"], ["score"])
    for place in places:
        looks = seen_as(int(found.bias_label[place]), images.classes)
        own = images.classes[int(found.targets[place])]
        score = f"{float(found.score[place]):.3f}"
        table.add_row(_short(name_of(place, images)), Text(own), Text(looks), score)
    return table


def _noisy(places: list[int], images: Images, details: Details) -> Table:
    assert details.noise is not None
    table = _table(["class"], ["loss", "noise"])
    for place in places[:TOP]:
        own = images.classes[int(images.targets[place])]
        loss = "-" if details.loss is None else f"{float(details.loss[place]):.2f}"
        noise = f"{float(details.noise[place]):.3f}"
        table.add_row(_short(name_of(place, images)), Text(own), loss, noise)
    return table


def _table(words: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("", max_width=NAME, no_wrap=True)
    for name in words:
        table.add_column(name, max_width=16, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _short(name: str) -> Text:
    """Keep the end of a long name: files are told apart there."""
    return Text(name if len(name) <= NAME else f"…{name[1 - NAME :]}")
