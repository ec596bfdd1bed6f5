"""One sentence of jsonargparse's nested messages: the setting, what it is, what was expected."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Sequence

from online_debias import data
from online_debias.engine import Callback
from online_debias.runs.pipeline import Pipeline

_CRITERIA = ("cross_entropy.cross_entropy", "gce.GeneralizedCrossEntropy")
_KINDS = {"data": data.Source, "callbacks": Callback, "pipeline": Pipeline}


def nearest(name: str, known: Sequence[str]) -> str:
    """Return the end of a sentence about a name that is not known.

    Example:
        >>> nearest("epoch", ["epochs", "seed"])
        'the nearest are epochs'
    """
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    return f"the nearest are {', '.join(near)}" if near else f"there are {', '.join(known)}"


def classes_of(key: str) -> list[str]:
    """Return the names of the classes that a setting can have, as far as they were imported."""
    if key == "criterion":
        return [f"online_debias.functional.{name}" for name in _CRITERIA]
    if key == "model":
        return ["SmallConvNet", "SimpleConvNet", "Torchvision", "Imported"]
    kind = _KINDS.get(key.partition(".")[0])
    waiting: list[type] = [] if kind is None else kind.__subclasses__()
    names = []
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if not inspect.isabstract(kind):
            names.append(kind.__name__)
    return sorted(name for name in names if not name.startswith("_"))


def sentence(message: str, settings: Sequence[str]) -> str:
    """Make one sentence of a parser's message, with the mend where it can be known.

    Args:
        message: what an `ArgumentError` says.
        settings: names of all settings, for the nearest to an unknown one.

    Example:
        >>> sentence("unrecognized arguments: --epoch 3", ["epochs", "seed"])
        "There is no setting '--epoch'; the nearest are epochs."
    """
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    text, last = " ".join(lines), lines[-1]
    if found := re.search(
        r"^(.*?) Problem with given class_path \S+ (.*)Errors: - (Problem with given .*) - "
        r"Expected a <class 'NoneType'>",
        text,
    ):  # of an object inside another one
        outer = ".".join(re.findall(r'Parser key "([\w.]+)"', f"{found[1]} {found[2]}"))
        return f"{outer}: {sentence(found[3], settings)}"
    key = next(iter(re.findall(r'Parser key "([\w.]+)"', text)), "")
    path = next(iter(re.findall(r"class_path[ =]'([\w.]+)'", text)), "")
    text, last = (re.sub(r"\. Got value: Namespace\(.*", "", part) for part in (text, last))
    where = f"{key}: " if key else ""
    if found := re.search(r"dot import path string: (\S+)", last):
        return f"{where}there is no class {found[1]!r}; {nearest(found[1], classes_of(key))}."
    if found := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", last):
        names = [n for n in dir(importlib.import_module(found[1])) if n[0].isupper()]
        return f"{where}{found[1]} has no class {found[2]!r}; {nearest(found[2], names)}."
    if found := re.search(r"No module named '([\w.]+)'", last):
        return (
            f"{where}there is no module {found[1]!r}; check the import path (modules in the "
            "current folder are found)."
        )
    if key == "model" and (found := re.search(r"Unexpected import object .* value: (\S+)", last)):
        return f"{where}{found[1]!r} is no class of models; {nearest('', classes_of(key))}."
    if key == "model" and (found := re.search(r"Expected '([\w.]+)' to be a (?:sub|fun)", text)):
        known = ", ".join(classes_of(key))
        return (
            f"model: {found[1]!r} is no class of models, and no function that says it returns one; "
            f"there are {known}, and --model Imported --model.path {found[1]}."
        )
    if found := re.search(r"Import path (\S+) does not correspond to a subclass of (\w+)", text):
        own = key in _KINDS and _KINDS[key].__name__ == found[2]
        return f"{where}{found[1]!r} is no {found[2]}, expected {_such_as(key if own else '')}."
    if found := re.search(
        r"subtypes Subtypes: .* Errors: - (.*\.) - Expected a <class 'None", text
    ):
        return found[1]
    if key == "taps" and "Union subtypes" in text:
        given = text.rpartition("Given value: ")[2]
        return (
            f"taps has {given}, expected a module path such as stage1, or {{path: stage1}} with "
            "pool (a whole number), reads (output or input) or width."
        )
    if found := re.search(r"Not a valid subclass of \w+\.? Got value: (.*?) Subclass", text):
        return (
            f"{key} has {found[1]}, expected the name of {_such_as(key)}, or class_path and "
            "init_args."
        )
    if found := re.search(r"Option '([\w.]+)' is not accepted", last):
        module, _, name = path.rpartition(".")
        if not path:
            return f"There is no setting {found[1]!r}; {nearest(found[1], settings)}."
        options = list(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
        return f"{where}{name} has no option {found[1]!r}; {nearest(found[1], options)}."
    if found := re.search(r"unrecognized arguments: (\S+)", last):
        name = found[1].lstrip("-").partition("=")[0]
        return f"There is no setting {found[1]!r}; {nearest(name, settings)}."
    if key == "criterion":
        near = nearest("", classes_of(key))
        return (
            f"criterion must be a function (logits, targets) -> losses or a class of such; {near}."
        )
    if found := re.search(r"arguments are required: (.*)", last):
        name = path.rpartition(".")[2]
        setting = f"{key}.{found[1]}" if key else found[1]
        return f"{where}{name or 'The command'} needs {found[1]}; give it with --{setting}."
    found = re.search(r"Expected an? (.+?)\.? Got value: (.*)", last) or re.search(
        r"Subtypes: \[(.+), <class 'NoneType'>\] Errors: .* Given value: (.*)", text
    )
    if found:
        setting = ".".join(re.findall(r'Parser key "([\w.]+)"', text))
        return f"{setting} is {found[2]!r}, expected {_kind(found[1])}."
    if found := re.search(r"(?:File does not exist|Path is not a file): '(.*)'", text):
        return f"There is no settings file {found[1]}; name one with --{key or 'config'}."
    return (last if path and not where else text).removesuffix(".") + "."


def _such_as(key: str) -> str:
    return f"a class such as {known[0]}" if (known := classes_of(key)) else "another class"


def _kind(text: str) -> str:
    """What a person calls a type that Python writes so."""
    kind = re.sub(r"<class '(?:[\w.]+\.)?(\w+)'>|typing\.", r"\1", text)
    words = re.fullmatch(r"Literal\[(.*)\]", kind)
    return words[1].replace(", ", " or ") if words else kind
