"""What a comparison consists of: methods x data x ratios x seeds, each combination one run."""

from __future__ import annotations

import inspect
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from online_debias.comparison.summary import Quoted
from online_debias.errors import ConfigError
from online_debias.settings import parser
from online_debias.settings.overrides import expand_overrides
from online_debias.training.epoch_selection import Selection

# Plain dicts: of `dict[str, Any]` the parser would make the objects that are named inside.
Entry = str | dict  # type: ignore[type-arg]


@dataclass
class Comparison:
    """What is compared; each is a key in YAML.

    Strings among settings may hold `{folder}`, `{data}`, `{ratio}` and `{seed}`: a path that
    several methods write, so that they share it; those do not run at the same time.

    Args:
        methods: names of recipes, or settings with a `name` and the `method` they start from; a
            `change` says what differs from the method's callbacks, see `expand_overrides`.
        data: classes of data sets, or a `class_path` with `init_args` and, if wanted, a `name`.
        ratios: shares of bias-aligned images, the data's `rho`; none leaves it as it is.
        seeds: of training and data.
        settings: of `train`, for every method.
        selection: last, best-biased-validation, pseudo-group-validation or oracle-validation; see
            `selection.select`.
        processes: runs at the same time, one thread each; those on a GPU share it.
        quoted: rows from papers, marked in the tables.
        root: folder of the data's files, for all data sets that need one.
        run: folder to write.
    """

    methods: list[Entry]
    data: list[Entry] = field(default_factory=lambda: ["BiasedDigits"])
    ratios: list[float] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    settings: dict = field(default_factory=dict)  # type: ignore[type-arg]
    selection: Selection = "last"
    processes: int = 2
    quoted: list[Quoted] = field(default_factory=list)
    root: str | None = None
    run: Path = Path("runs/compare")


@dataclass(frozen=True)
class PlannedRun:
    """One run of a comparison.

    Attributes:
        method, data, ratio, seed: what it is called by in results.csv.
        folder: its run folder.
        text: its settings, as config.yaml has them.
        shared: files that other runs write too.
    """

    method: str
    data: str
    ratio: float | None
    seed: int
    folder: Path
    text: str
    shared: frozenset[str]

    @property
    def place(self) -> str:
        """Name of data and ratio."""
        return _place(self.data, self.ratio)

    @property
    def title(self) -> str:
        """Name for a person."""
        return f"{self.method} on {self.place}, seed {self.seed}"

    def results(self) -> dict[str, Any] | None:
        """Return what results.json holds; None if the run is not finished.

        Raises:
            ConfigError: the folder holds a run of other settings or of another version.
        """
        kept, file = self.folder / "config.yaml", self.folder / "results.json"
        if kept.is_file() and kept.read_text() != self.text:
            raise ConfigError(
                f"{self.folder} holds a run of other settings ({_difference(kept, self.text)}); "
                "delete it or choose another folder with --run."
            )
        if not file.is_file():
            return None
        try:
            found: dict[str, Any] = json.loads(file.read_text())
            made_by = found["versions"]["online-debias"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ConfigError(f"{file} is damaged; delete it to finish the run again.") from error
        if made_by != version("online-debias"):
            raise ConfigError(
                f"{file} was written by version {made_by}, this is {version('online-debias')}; "
                "delete the run or choose another folder with --run."
            )
        return {**found, "method": self.method, "data": self.data, "ratio": self.ratio}


def planned_runs(comparison: Comparison) -> list[PlannedRun]:
    """Return the runs of a comparison, seed by seed; every setting is checked.

    Raises:
        ConfigError: a setting cannot be used, two methods or data sets have one name, or a quoted
            row is of data that is not compared.
    """
    if comparison.processes < 1:
        raise ConfigError(f"processes is {comparison.processes}, expected at least 1.")
    methods = _named("methods", comparison.methods, "method")
    data = _named("data", comparison.data, "class_path")
    for name, values in (("seeds", comparison.seeds), ("ratios", comparison.ratios)):
        twice = [value for value, count in Counter(values).items() if count > 1]
        if twice:
            raise ConfigError(f"{name} has {twice[0]} twice; leave one out.")
    if not comparison.seeds:
        raise ConfigError("seeds is empty, expected at least one whole number.")
    found = []
    ratios: list[float | None] = [*comparison.ratios] or [None]
    for seed, (data_name, source), ratio, (method, given) in product(
        comparison.seeds, data.items(), ratios, methods.items()
    ):
        place = _place(data_name, ratio)
        folder = comparison.run / place / method / str(seed)
        names = {"folder": comparison.run, "data": data_name, "ratio": ratio, "seed": seed}
        filled, shared = _fill({**comparison.settings, **given}, names)
        filled = {**filled, "seed": seed, "data": _source(source, comparison.root, ratio, seed)}
        try:
            _, configuration = parser.resolve(expand_overrides({**filled, "run": str(folder)}))
        except ConfigError as error:
            raise ConfigError(f"Method {method!r} on {place}: {error}") from error
        text = parser.dump(configuration)
        found.append(PlannedRun(method, data_name, ratio, seed, folder, text, frozenset(shared)))
    _check_quoted(comparison.quoted, found)
    return found


def _check_quoted(quoted: Sequence[Quoted], runs: Sequence[PlannedRun]) -> None:
    """Refuse a paper's row that would stand beside none of ours."""
    places = {(run.data, run.ratio): run.place for run in runs}
    for row in quoted:
        if (row.data, row.ratio) not in places:
            raise ConfigError(
                f"The quoted row {row.method!r} is of {_place(row.data, row.ratio)}, which is not "
                f"compared; there are {', '.join(sorted(set(places.values())))}."
            )


def _named(key: str, entries: list[Entry], default: str) -> dict[str, dict[str, Any]]:
    """Give every entry its name."""
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        given = {default: entry} if isinstance(entry, str) else dict(entry)
        if default not in given:
            raise ConfigError(f"{key}: {entry} needs a {default!r}.")
        name = str(given.pop("name", str(given[default]).rpartition(".")[2]))
        if name in found:
            raise ConfigError(
                f"{key} has two entries with the name {name!r}; give one another `name`."
            )
        if not re.fullmatch(r"[\w ,.+-]+", name) or name.startswith("."):
            raise ConfigError(
                f"{key}: the name {name!r} cannot name a folder; use letters, digits, spaces, "
                "'-', '+', '.' and '_'."
            )
        found[name] = given
    if not found:
        raise ConfigError(f"{key} is empty, expected at least one.")
    return found


def _source(
    source: Mapping[str, Any], root: str | None, ratio: float | None, seed: int
) -> dict[str, Any]:
    """Give a data set its root, ratio and seed, as far as it takes them."""
    path = str(source["class_path"])
    kind = parser.source_class(path)
    takes = inspect.signature(kind).parameters
    given = {"root": root, "rho": ratio, "seed": seed}
    own = {name: value for name, value in given.items() if name in takes and value is not None}
    if ratio is not None and "rho" not in takes:
        raise ConfigError(f"ratios are given, but {kind.__name__} has no `rho` to set; leave them.")
    arguments = source.get("init_args", {})
    if not isinstance(arguments, dict):
        raise ConfigError(f"data: init_args of {path} is {arguments!r}, expected `name: value`.")
    return {"class_path": path, "init_args": {**own, **arguments}}


def _fill(value: Any, names: Mapping[str, Any]) -> tuple[Any, set[str]]:
    """Fill names into the strings of nested settings; also return the strings that had some."""
    shared: set[str] = set()
    field = re.compile(rf"\{{({'|'.join(names)})\}}")

    def fill(found: re.Match[str]) -> str:
        return str(names[found[1]])

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: walk(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [walk(inner) for inner in value]
        if isinstance(value, str) and (filled := field.sub(fill, value)) != value:
            shared.add(filled)
            return filled
        return value

    return walk(value), shared


def _place(data: str, ratio: float | None) -> str:
    return data if ratio is None else f"{data}-{ratio}"


def _difference(kept: Path, text: str) -> str:
    try:
        before = dict(_leaves(yaml.safe_load(kept.read_text())))
    except (yaml.YAMLError, UnicodeDecodeError):
        return f"{kept.name} is damaged"
    for name, value in _leaves(yaml.safe_load(text)):
        if name not in before or before[name] != value:
            return f"{name} was {before.get(name, 'not set')}, is {value}"
    return "it had more settings"


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{prefix}.{name}" if prefix else name)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _leaves(inner, f"{prefix}[{place}]")
    else:
        yield prefix, value
