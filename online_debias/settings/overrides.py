"""A method with some of its callbacks changed, added or left out: the rows of an ablation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from online_debias.errors import ConfigError
from online_debias.settings import parser
from online_debias.settings.messages import nearest


def expand_overrides(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings whose `change`, if they have one, is written out as `callbacks`.

    A change says by class names what differs from the method's own callbacks: arguments stand in
    place of those of the same names, a class that the method does not have is added, and null
    leaves a callback out. Order means nothing among callbacks, so none has a place.

    Args:
        given: settings as a YAML file has them.

    Raises:
        ConfigError: there are `callbacks` too, or a change cannot be made.

    Example:
        >>> change = {"Resample": {"share": 0.6}, "OracleGroups": None, "Augment": {}}
        >>> given = expand_overrides({"method": "resample-oracle", "change": change})
        >>> for entry in given["callbacks"]:
        ...     print(entry["class_path"].rpartition(".")[2], entry["init_args"])
        Resample {'share': 0.6, 'sharpness': 60}
        Augment {}
    """
    settings = dict(given)
    if "change" not in settings:
        return settings
    change = settings.pop("change")
    if "callbacks" in settings:
        raise ConfigError("callbacks and a change of them are given; leave one of the two out.")
    if not isinstance(change, Mapping):
        raise ConfigError(f"change is {change!r}, expected `callback: {{argument: value}}`.")
    method = str(settings.get("method", "online"))
    entries = parser.recipe(method).get("callbacks", [])
    found = {_name(entry["class_path"]): entry for entry in entries}
    for path, arguments in change.items():
        name = _name(path)
        if arguments is not None:
            found[name] = _changed(found.get(name, {"class_path": path}), name, arguments)
        elif found.pop(name, None) is None:
            there = nearest(name, list(found)) if found else "there are none"
            raise ConfigError(f"change leaves out {name}, which {method} has not; {there}.")
    return {**settings, "callbacks": list(found.values())}


def _changed(entry: Mapping[str, Any], name: str, arguments: Any) -> dict[str, Any]:
    if not isinstance(arguments, Mapping):
        raise ConfigError(f"change: {name} is {arguments!r}, expected `argument: value` or null.")
    return {**entry, "init_args": {**entry.get("init_args", {}), **arguments}}


def _name(path: str) -> str:
    return str(path).rpartition(".")[2]
