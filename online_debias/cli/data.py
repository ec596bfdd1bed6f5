"""`online-debias data`: which data sets are known, and what of one is found."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from online_debias import data as package
from online_debias.data import Images, Source
from online_debias.errors import ConfigError, as_config_error
from online_debias.settings import parser
from online_debias.settings.messages import nearest


def known() -> dict[str, type[Source]]:
    """Return the shipped data sets by name."""
    found = (getattr(package, name) for name in package.__all__)
    sources = (x for x in found if inspect.isclass(x) and issubclass(x, Source) and x is not Source)
    return {source.__name__: source for source in sources}


def needs(source: type[Source]) -> list[str]:
    """Return the arguments that a data set cannot do without.

    Example:
        >>> from online_debias.data import BiasedDigits, BiasedMNIST
        >>> needs(BiasedDigits), needs(BiasedMNIST)
        ([], ['root'])
    """
    parameters = inspect.signature(source).parameters
    return [name for name, x in parameters.items() if x.default is inspect.Parameter.empty]


def show(console: Console | None = None) -> None:
    """Print the data sets."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("--data")
    table.add_column("what it is")
    table.add_column("needs")
    for name, source in known().items():
        options = " ".join(f"--data.{argument}" for argument in needs(source))
        table.add_row(name, source.summary, options or "nothing")
    (console or Console()).print(table)


def check(
    name: str, root: str | None, console: Console | None = None, arguments: Sequence[str] = ()
) -> None:
    """Print the splits of a data set as they are found below `root`.

    Args:
        name: the data set's class.
        root: the folder with its files, None for one that needs none.
        console: where to print.
        arguments: further settings of the data set, such as `["--size", "32"]`.

    Raises:
        ConfigError: the data set is not known, its files are missing (shows the expected tree), or
            an argument cannot be used.
    """
    console = console or Console()
    sources = known()
    if name not in sources:
        raise ConfigError(f"There is no data set {name!r}; {nearest(name, list(sources))}.")
    source = sources[name]
    given = [*(["--root", root] if root is not None else []), *arguments]
    for argument in needs(source):
        if not any(word.partition("=")[0] == f"--{argument}" for word in given):
            text = ", the folder that holds its files" if argument == "root" else ""
            raise ConfigError(f"{name} needs --{argument}{text}.")
    found = _made(name, given)
    with as_config_error():
        splits = {"train": found.train(), "validation": found.validation(), "test": found.test()}
    console.print(f"{name}: {source.summary}")
    for split, images in splits.items():
        console.print(f"  {split:<11}{'none' if images is None else _counts(images)}")
    if all(images is None or images.bias is None for images in splits.values()):
        console.print("  No bias labels: accuracy is measured, group accuracies are not.")


def _made(name: str, given: Sequence[str]) -> Source:
    words = [f"--data.{word[2:]}" if word.startswith("--") else word for word in given]
    settings, _ = parser.parse(["--data", name, *words])
    return settings.data


def _counts(images: Images) -> str:
    shape = "x".join(map(str, images.images.shape[1:]))
    sizes = images.targets.bincount(minlength=len(images.classes)).tolist()
    least, most = min(sizes), max(sizes)
    each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    text = f"{len(images):,} images {shape}, {len(images.classes)} classes"
    if images.conflicting is not None:
        text += f", {int(images.conflicting.sum()):,} bias-conflicting"
    return f"{text}, {each} a class"
