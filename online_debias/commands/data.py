"""`online-debias data`: which data sets are known, and what of one is found."""

from __future__ import annotations

import difflib
import inspect

from rich import box
from rich.console import Console
from rich.table import Table

from online_debias import data as package
from online_debias.data import Images, Source
from online_debias.errors import ConfigError, plainly


def known() -> dict[str, type[Source]]:
    """Return the shipped data sets by name."""
    found = (getattr(package, name) for name in package.__all__)
    sources = (x for x in found if inspect.isclass(x) and issubclass(x, Source) and x is not Source)
    return {source.__name__: source for source in sources}


def show(console: Console | None = None) -> None:
    """Print the data sets."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("--data")
    table.add_column("what it is")
    table.add_column("needs")
    for name, source in known().items():
        table.add_row(name, source.summary, "--data.root" if source.expected_tree else "nothing")
    (console or Console()).print(table)


def check(name: str, root: str | None, console: Console | None = None) -> None:
    """Print the splits of a data set as they are found below `root`.

    Raises:
        ConfigError: the data set is not known, or its files are missing; shows the expected tree.
    """
    console = console or Console()
    sources = known()
    if name not in sources:
        near = difflib.get_close_matches(name, sources, n=3) or list(sources)
        raise ConfigError(f"There is no data set {name!r}; the nearest are {', '.join(near)}.")
    source = sources[name]
    if source.expected_tree and root is None:
        raise ConfigError(f"{name} needs --root, the folder that holds its files.")
    with plainly():
        found = source(**({"root": root} if source.expected_tree else {}))
        splits = {"train": found.train(), "validation": found.validation(), "test": found.test()}
    console.print(f"{name}: {source.summary}")
    for split, images in splits.items():
        console.print(f"  {split:<11}{'none' if images is None else _counts(images)}")


def _counts(images: Images) -> str:
    shape = "x".join(map(str, images.images.shape[1:]))
    text = f"{len(images):,} images {shape}, {len(images.classes)} classes"
    if images.conflicting is not None:
        text += f", {int(images.conflicting.sum()):,} bias-conflicting"
    return text
