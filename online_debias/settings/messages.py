"""One sentence of jsonargparse's nested messages: the setting, what it is, what was expected."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from jsonargparse import ArgumentError

from online_debias import data
from online_debias.detectors import Detector
from online_debias.engine import Callback
from online_debias.errors import ConfigError
from online_debias.runs.pipeline import Pipeline

_CHOICES = {
    "criterion": [
        "online_debias.functional.losses.cross_entropy.cross_entropy",
        "online_debias.functional.losses.gce.GeneralizedCrossEntropy",
    ],
    "model": ["SmallConvNet", "SimpleConvNet", "Torchvision", "Imported"],
}
_BASES = {"data": data.Source, "callbacks": Callback, "detector": Detector, "pipeline": Pipeline}
_MOST = 30  # names that are listed

# What jsonargparse says, and the sentence in its place: the first pattern that is found counts, {0}
# and {1} are its groups, the other words are those of `_words`.
_SENTENCES = {
    r"^(?:unrecognized arguments: |Option ')([^\s']+)": "There is no setting {0!r}; {settings}.",
    r'key "taps": .*Union.* value: (.*)': "taps has {0}, expected a module path such as stage1, or "
    "{{path: stage1}} with pool (a whole number), reads (output or input) or width.",
    r"import path string: (\S+)": "{where}there is no class {0!r}; {classes}.",
    r"module '([\w.]+)' has no attribute '(\w+)'": "{where}{0} has no class {1!r}; {members}.",
    r"No module named '([\w.]+)'": "{where}there is no module {0!r}; check the import path "
    "(modules in the current folder are found).",
    r'key "model": .*Unexpected .* value: (\S+)': "model: {0!r} is no class of models; {classes}.",
    r"""key "model": .*Expected '([\w.]+)' to be a """: "model: {0!r} is no class of models, and "
    "no function that says it returns one; {classes}, and --model Imported --model.path {0}.",
    r"Import path (\S+) does not correspond to a subclass of (\w+)": "{where}{0!r} is no {1}, "
    "expected {such}.",
    r"Not a valid subclass of \w+\.? Got value: (.*?) Subclass": "{setting} has {0}, expected the "
    "name of {such}, or class_path and init_args.",
    r"Option '([\w.]+)' is not accepted": "{where}{name} has no option {0!r}; {options}.",
    r"arguments are required: ([\w, ]+)": "{where}{name} needs {0}; give it with --{option}.",
    r"'(\w+)' object has no attribute 'keys'": "{where}{name} has init_args of type {0}, expected "
    "`name: value`.",
    r"Expected an? (.+?)\.? Got value: (.*?)(?: - Expected .*)?$": "{setting} is {1!r}, expected "
    "{kind}.",
    r'key "criterion": (Type)': "criterion must be a function (logits, targets) -> losses or a "
    "class of such; {classes}.",
    r"^Does not validate .* Errors: - (.*\.) - Expected": "{0}",
    r"Subtypes: \[(.+)\] Errors: .* Given value: (.*)": "{setting} is {1!r}, expected {kind}.",
}


@contextmanager
def one_sentence(settings: Sequence[str]) -> Iterator[None]:
    """Turn what a parser, or a class that it makes, refuses in the block into a ConfigError.

    Args:
        settings: names of all settings, for the nearest to an unknown one.
    """
    try:
        yield
    except ArgumentError as error:
        raise ConfigError(sentence(str(error), settings)) from error
    except (OSError, ValueError) as error:  # of a class that was made; lines may be a tree of files
        message = str(error)
        nested = message.startswith("Does not validate")  # of a class in the arguments of a class
        raise ConfigError(sentence(message, settings) if nested else message) from error


def sentence(message: str, settings: Sequence[str]) -> str:
    """Make one sentence of a parser's message, with the mend where it can be known.

    Args:
        message: what an `ArgumentError` says.
        settings: names of all settings, for the nearest to an unknown one.

    Example:
        >>> sentence("unrecognized arguments: --epoch 3", ["epochs", "seed"])
        "There is no setting '--epoch'; the nearest are epochs."
    """
    text = " ".join(message.split())
    paths = re.findall(r"class_path[ =]'([\w.]+)'", text)
    text = re.sub(r"\. Got value: Namespace\(.*", "", text)
    for pattern, template in _SENTENCES.items():
        if found := re.search(pattern, text):
            before = text[: found.start(1)]
            setting = ".".join(re.findall(r'Parser key "([\w.]+)"', before))
            path = next((path for path in reversed(paths) if path in before), "".join(paths[:1]))
            words = _words(found.groups(), setting, path)
            unknown = found[1].lstrip("-").partition("=")[0]
            return template.format(*found.groups(), **words, settings=nearest(unknown, settings))
    return re.sub(r'^Parser key "([\w.]+)"', r"\1", text).removesuffix(".") + "."


def _words(groups: tuple[str, ...], setting: str, path: str) -> dict[str, str]:
    """Return the words of a sentence.

    Args:
        groups: what a pattern found.
        setting: where, such as callbacks.detector.
        path: import path of the class whose arguments are meant, if there is one.
    """
    classes = classes_of(setting)
    members = [name for name in dir(sys.modules.get(groups[0])) if name[0].isupper()]
    kind = re.sub(r"<class '(?:[\w.]+\.)?(\w+)'>|typing\.", r"\1", groups[0])
    kind = re.sub(r"^Literal\[(.*)\]", r"\1", kind.removesuffix(", NoneType"))
    return {
        "where": setting and f"{setting}: ",
        "setting": setting,
        "name": path.rpartition(".")[2] or "The command",
        "option": f"{setting}.{groups[0]}" if setting else groups[0],
        "options": nearest(groups[0], _options(path)),
        "members": nearest(groups[-1], members),
        "classes": nearest(groups[0], classes),
        "such": f"a class such as {classes[0]}" if classes else "another class",
        "kind": re.sub(r", (?![^\[]*\])", " or ", kind),  # commas between types, not in one
    }


def _options(path: str) -> list[str]:
    module, _, name = path.rpartition(".")
    try:
        return list(inspect.signature(getattr(sys.modules[module], name)).parameters)
    except (KeyError, AttributeError, TypeError, ValueError):  # not there, or it does not say
        return []


def classes_of(setting: str) -> list[str]:
    """Return the names of the shipped classes that a setting can have."""
    key = setting.rpartition(".")[2]
    kinds: list[type] = _BASES[key].__subclasses__() if key in _BASES else []
    for kind in kinds:
        kinds += kind.__subclasses__()  # goes on with them
    return _CHOICES.get(key) or sorted({kind.__name__ for kind in kinds if _is_exported(kind)})


def _is_exported(kind: type) -> bool:
    """Whether a room of this library exports a class; bases and a user's own are not."""
    package, room, *_ = f"{kind.__module__}.".split(".")
    exports = sys.modules.get(f"{package}.{room}") if package == "online_debias" else None
    return getattr(exports, kind.__name__, None) is kind


def nearest(name: str, known: Sequence[str]) -> str:
    """Return the end of a sentence about a name that is not known.

    Example:
        >>> nearest("epoch", ["epochs", "seed"])
        'the nearest are epochs'
    """
    if near := difflib.get_close_matches(name, known, n=3, cutoff=0.6):
        return f"the nearest are {', '.join(near)}"
    if not known:
        return "there are none"
    more = ", ..." if len(known) > _MOST else ""
    return f"there are {', '.join(known[:_MOST])}{more}"
