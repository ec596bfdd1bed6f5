"""Settings from YAML and the command line: every object by its class's import path."""

from __future__ import annotations

import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from online_debias import data
from online_debias.errors import ConfigError
from online_debias.runs.pipeline import Settings
from online_debias.runtime.torchvision_compat import import_torchvision
from online_debias.settings.messages import classes_of, nearest, one_sentence

_DEFAULTS: dict[str, Any] = {
    "data": {"class_path": "online_debias.data.BiasedDigits"},
    "model": {"class_path": "online_debias.models.SmallConvNet"},
}

_OWN = frozenset({"callbacks", "data"})  # of which a given one stands in place of the default


def recipes() -> list[str]:
    """Return the names of the methods."""
    names = [entry.name for entry in files("online_debias.recipes").iterdir()]
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def recipe(name: str) -> dict[str, Any]:
    """Return the settings that a method stands for.

    Raises:
        ConfigError: there is no such method; names the nearest, or all.
    """
    if name not in recipes():
        raise ConfigError(f"There is no method {name!r}; {nearest(name, recipes())}.")
    text = files("online_debias.recipes").joinpath(f"{name}.yaml").read_text()
    settings: dict[str, Any] = yaml.safe_load(text)
    return settings


@cache  # a comparison asks for the same few again and again
def parser(method: str = "online", own: frozenset[str] = frozenset()) -> ArgumentParser:
    """Return the parser of a run's settings, with those of a method as defaults.

    Args:
        method: name of a recipe.
        own: settings that are given: of these, nothing is a default. A data set of another class
            would else take arguments that it has in common with the default one from that, and
            callbacks those of the recipe's entry of the same place and class.
    """
    for module in ("callbacks", "models"):  # makes short class names known
        importlib.import_module(f"online_debias.{module}")
    made = ArgumentParser(
        prog="online-debias train", exit_on_error=False, allow_abbrev=False,
        usage="online-debias train [--method METHOD] [--data DATA] [--SETTING VALUE ...]",
        epilog=f"Methods: {', '.join(recipes())}. `online-debias data list` has the data sets.",
    )  # fmt: skip
    made.add_argument("--config", action="config", help="a YAML file with any of these settings")
    made.add_argument("--resume", metavar="RUN", help="go on with the run in this folder")
    made.add_class_arguments(Settings)
    of_method = {} if method == "custom" else recipe(method)
    defaults = {**_DEFAULTS, **recipe("plain"), **of_method, "method": method}
    if "callbacks" in own:
        defaults["callbacks"] = []
    if "data" in own:
        del defaults["data"]
    made.set_defaults(defaults)
    return made


def help_text() -> str:
    """Return what `train --help` prints: all settings, and what can be chosen."""
    text = parser().format_help().replace("(required, type:", "(type:")
    # Every layer of torch's is a subclass of what a network is.
    classes = ", ".join(classes_of("model"))
    known = (
        f"known are {classes}, names of torchvision's networks such as resnet18, and import paths)"
    )
    known = textwrap.indent(textwrap.fill(known, 54), 24 * " ")
    named = r"(\n  --model MODEL .*?), known\s+subclasses: .*?\)(?=\n  --)"
    return re.sub(named, rf"\1;\n{known}", text, count=1, flags=re.DOTALL)


def parse(arguments: Sequence[str]) -> tuple[Settings, Namespace]:
    """Return the settings that a command line stands for, and their configuration.

    Raises:
        ConfigError: something cannot be used.
    """
    arguments = _torchvision_names(arguments)
    path = option(arguments, "--config")
    in_file = read_yaml(path) if path else {}
    own = {name for name in _OWN if name in in_file or option(arguments, f"--{name}") is not None}
    chosen = parser(_method(arguments, in_file), frozenset(own))
    return _settings(chosen, lambda: chosen.parse_args(list(arguments)))


def resolve(given: Mapping[str, Any]) -> tuple[Settings, Namespace]:
    """Return what settings as a YAML file has them stand for; see `parse`."""
    chosen = parser(str(given.get("method", "online")), frozenset(_OWN & given.keys()))
    return _settings(chosen, lambda: chosen.parse_object(dict(given)))


def _settings(chosen: ArgumentParser, read: Callable[[], Namespace]) -> tuple[Settings, Namespace]:
    fields = Settings.__dataclass_fields__
    with one_sentence([*fields]):
        configuration = _again_beside_torchvision(read)
        for name, field in fields.items():
            if configuration[name] is None and field.default is not None:
                raise ConfigError(f"{name} is null, expected a value; leave the line out.")
        made = _again_beside_torchvision(lambda: chosen.instantiate(configuration))
        return Settings(**{name: made[name] for name in fields}), configuration


def _again_beside_torchvision(read: Callable[[], Namespace]) -> Namespace:
    """Read or make what may import a torchvision that does not load."""
    try:
        return read()
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        import_torchvision()
        return read()


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
        raise ConfigError(f"data: there is no class {path!r}; {nearest(path, classes_of('data'))}.")
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


class _NoKeyTwice(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key in keys if keys.count(key) > 1 and key != "<<"), None)
        if twice is not None:
            raise yaml.YAMLError(f"line {node.start_mark.line + 1} has {twice!r} twice, keep one")
        return super().construct_mapping(node, deep)


def _method(arguments: Sequence[str], in_file: Mapping[str, Any]) -> str:
    """The recipe whose settings are the defaults: the line decides, then the YAML file."""
    chosen = in_file.get("method", "custom" if "callbacks" in in_file else "online")
    return option(arguments, "--method") or str(chosen)


def read_yaml(path: str) -> dict[str, Any]:
    """Return what a file of settings holds.

    Raises:
        ConfigError: there is none, it is no YAML, no mapping, or has a key twice.
    """
    try:
        content = yaml.load(Path(path).read_text(), _NoKeyTwice)
    except (FileNotFoundError, IsADirectoryError):
        raise ConfigError(f"There is no settings file {path}; check --config.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is not YAML: {' '.join(str(error).split())}; mend it, or name another file."
        ) from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds {type(content).__name__}, expected `key: value` lines.")
    return content


def _torchvision_names(arguments: Sequence[str]) -> list[str]:
    """Let `--model resnet18` mean torchvision's: a class of ours has capitals or dots."""
    name = option(arguments, "--model")
    if name is None or not name.isidentifier() or not name.islower():
        return list(arguments)
    chosen = ["--model", "online_debias.models.Torchvision", "--model.name", name]
    return [*chosen, *without(arguments, "--model")]
