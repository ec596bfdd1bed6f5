"""Settings from YAML and the command line: every object by its class's import path."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from online_debias import data
from online_debias.callback import Callback
from online_debias.errors import ConfigError
from online_debias.pipeline import Pipeline, Settings

_DEFAULTS: dict[str, Any] = {
    "data": {"class_path": "online_debias.data.BiasedDigits"},
    "model": {"class_path": "online_debias.models.SmallConvNet"},
}
_CRITERIA = ("cross_entropy.cross_entropy", "gce.GeneralizedCrossEntropy")
_KINDS = {"data": data.Source, "callbacks": Callback, "pipeline": Pipeline}


def recipes() -> list[str]:
    """Return the names of the methods."""
    names = [entry.name for entry in files("online_debias.recipes").iterdir()]
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def recipe(name: str) -> dict[str, Any]:
    """Return the settings that a method stands for.

    Raises:
        ConfigError: there is no such method; names the nearest.
    """
    if name not in recipes():
        raise ConfigError(f"There is no method {name!r}; {_nearest(name, recipes())}.")
    text = files("online_debias.recipes").joinpath(f"{name}.yaml").read_text()
    settings: dict[str, Any] = yaml.safe_load(text)
    return settings


@cache  # a comparison asks for the same few again and again
def parser(method: str = "online") -> ArgumentParser:
    """Return the parser of a run's settings, with those of a method as defaults."""
    for module in ("callbacks", "models"):  # makes short class names known
        importlib.import_module(f"online_debias.{module}")
    found = ArgumentParser(prog="online-debias train", exit_on_error=False, allow_abbrev=False)
    found.add_argument("--config", action="config", help="a YAML file with any of these settings")
    found.add_argument("--resume", metavar="RUN", help="go on with the run in this folder")
    found.add_class_arguments(Settings)
    known = {} if method == "custom" else recipe(method)
    found.set_defaults({**_DEFAULTS, **recipe("plain"), **known, "method": method})
    return found


def parse(arguments: Sequence[str]) -> tuple[Settings, Namespace]:
    """Return the settings that a command line stands for, and their configuration.

    Raises:
        ConfigError: something cannot be used.
    """
    arguments = _torchvision_names(arguments)
    chosen = parser(_method(arguments))
    return _settings(chosen, lambda: chosen.parse_args(list(arguments)))


def resolve(given: Mapping[str, Any]) -> tuple[Settings, Namespace]:
    """Return what settings as a YAML file has them stand for; see `parse`."""
    chosen = parser(str(given.get("method", "online")))
    return _settings(chosen, lambda: chosen.parse_object(dict(given)))


def _settings(chosen: ArgumentParser, read: Callable[[], Namespace]) -> tuple[Settings, Namespace]:
    try:
        configuration = read()
        settings = chosen.instantiate(configuration)
    except OSError as error:  # its lines may be a tree of files
        raise ConfigError(str(error)) from error
    except (ArgumentError, ValueError, TypeError) as error:
        raise ConfigError(_sentence(str(error))) from error
    chosen_settings = {name: settings[name] for name in Settings.__dataclass_fields__}
    return Settings(**chosen_settings), configuration


def source_class(path: str) -> type[data.Source]:
    """Return the data set's class, from its import path or, if it is a shipped one, its name.

    Raises:
        ConfigError: there is none; names the nearest.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module or "online_debias.data"), name)
    except (ImportError, AttributeError):
        found = None
    if not (inspect.isclass(found) and issubclass(found, data.Source)):
        raise ConfigError(f"data: there is no class {path!r}; {_nearest(path, _classes('data'))}.")
    return found


def dump(configuration: Namespace) -> str:
    """Return the resolved settings as YAML; `--config` on this text gives the same run."""
    text: str = parser(configuration["method"]).dump(configuration)
    return text


def option(arguments: Sequence[str], name: str) -> str | None:
    """Return what follows `name` on a command line, None without it."""
    for position, argument in enumerate(arguments):
        if argument == name and position + 1 < len(arguments):
            return arguments[position + 1]
        if argument.startswith(f"{name}="):
            return argument.partition("=")[2]
    return None


def without(arguments: Sequence[str], name: str) -> list[str]:
    """Return the command line without `name` and its value."""
    rest = list(arguments)
    for position, argument in enumerate(rest):
        if argument == name:
            return rest[:position] + rest[position + 2 :]
        if argument.startswith(f"{name}="):
            return rest[:position] + rest[position + 1 :]
    return rest


def _method(arguments: Sequence[str]) -> str:
    """The recipe whose settings are the defaults: the line decides, then the YAML file."""
    given = option(arguments, "--method")
    path = option(arguments, "--config")
    if given or not path:
        return given or "online"
    try:
        content = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise ConfigError(f"There is no settings file {path}.") from None
    except (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds {type(content).__name__}, expected `key: value` lines.")
    return str(content.get("method", "custom" if "callbacks" in content else "online"))


def _torchvision_names(arguments: Sequence[str]) -> list[str]:
    """Let `--model resnet18` mean torchvision's: a class of ours has capitals or dots."""
    name = option(arguments, "--model")
    if name is None or not name.isidentifier() or not name.islower():
        return list(arguments)
    chosen = ["--model", "online_debias.models.Torchvision", "--model.name", name]
    return [*chosen, *without(arguments, "--model")]


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    return f"the nearest are {', '.join(near)}" if near else f"there are {', '.join(known)}"


def _sentence(message: str) -> str:
    """Make one sentence of jsonargparse's nested message, with the mend where it can be known."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    text, last = " ".join(lines), lines[-1]
    key = next(iter(re.findall(r'Parser key "([\w.]+)"', text)), "")
    path = next(iter(re.findall(r"class_path '([\w.]+)'", text)), "")
    where = f"{key}: " if key else ""
    if found := re.search(r"dot import path string: (\S+)", last):
        return f"{where}there is no class {found[1]!r}; {_nearest(found[1], _classes(key))}."
    if found := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", last):
        names = [n for n in dir(importlib.import_module(found[1])) if n[0].isupper()]
        return f"{where}{found[1]} has no class {found[2]!r}; {_nearest(found[2], names)}."
    if found := re.search(r"No module named '([\w.]+)'", last):
        return (
            f"{where}there is no module {found[1]!r}; check the import path (modules in the "
            "current folder are found)."
        )
    if (found := re.search(r"Option '([\w.]+)' is not accepted", last)) and path:
        module, _, name = path.rpartition(".")
        options = list(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
        return f"{where}{name} has no option {found[1]!r}; {_nearest(found[1], options)}."
    if key == "criterion":
        near = _nearest("", _classes(key))
        return (
            f"criterion must be a function (logits, targets) -> losses or a class of such; {near}."
        )
    if found := re.search(r"arguments are required: (.*)", last):
        name = path.rpartition(".")[2]
        return f"{where}{name} needs {found[1]}; give it with --{key}.{found[1]}."
    if found := re.search(r"Expected an? (.+?)\.? Got value: (.*)", last):
        setting = ".".join(re.findall(r'Parser key "([\w.]+)"', text))
        kind = re.sub(r"<class '(\w+)'>|typing\.", r"\1", found[1])
        if words := re.fullmatch(r"Literal\[(.*)\]", kind):
            kind = words[1].replace(", ", " or ")
        return f"{setting} is {found[2]!r}, expected {kind}."
    return last if path and not where else text


def _classes(key: str) -> list[str]:
    if key == "criterion":
        return [f"online_debias.functional.{name}" for name in _CRITERIA]
    if key == "model":
        return ["SmallConvNet", "SimpleConvNet", "Torchvision"]
    waiting, names = [_KINDS[key.partition(".")[0]]] if key in _KINDS else [], []
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        names.append(kind.__name__)
    return sorted(names[1:])
