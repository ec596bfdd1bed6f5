"""Objects as plain data: what pickle would keep, in a form whose reading runs no foreign code.

An encoded object is a list of parts, each a list that begins with its kind. A value in a part is
None, a bool, a number or a string as it is, or else `(number,)`: the part of that number. So what
was shared, or went in circles, does so again when it is decoded.
"""

from __future__ import annotations

import copyreg
import importlib
import random
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from operator import attrgetter
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np
import torch

_ATOMS = (type(None), bool, int, float, str)
_NAMED = (type, FunctionType, BuiltinFunctionType)
_CONTAINERS: dict[str, type] = {kind.__name__: kind for kind in (list, tuple, set, frozenset)}
_HARMLESS: dict[tuple[str, str], type] = {
    (kind.__module__, kind.__qualname__): kind
    for kind in (
        *(bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset),
        *(deque, defaultdict, Counter, OrderedDict, partial, random.Random),
    )
}


def encode(root: object, allowed: Sequence[str] = ("river.",)) -> dict[str, Any]:
    """Return `root` and all it holds as lists, tuples, numbers, strings and tensors.

    Args:
        root: the object; its classes say themselves what their state is, as they do to pickle.
        allowed: how the full names of the classes and functions in it may begin, beside some
            containers of the standard library.

    Raises:
        ValueError: something in it could not be decoded; names its class.

    Example:
        >>> encode([1, {"a": 2.5}])
        {'parts': [['list', 1, (1,)], ['dict', ['a'], [2.5]]], 'root': (0,)}
    """
    encoder = _Encoder(allowed)
    start = encoder.value(root)
    while len(encoder.parts) < len(encoder.objects):  # a loop, since chains may be long
        encoder.parts.append(encoder.part(encoder.objects[len(encoder.parts)]))
    return {"parts": encoder.parts, "root": start}


def decode(plain: dict[str, Any], allowed: Sequence[str] = ("river.",)) -> Any:
    """Return the object that `encode` was given.

    Only classes of the `allowed` modules, and containers of the standard library, are made; no
    function is called, whatever the data say.

    Raises:
        ValueError: the data name something else, or are damaged.

    Example:
        >>> decode({"parts": [["name", "os", "system"]], "root": (0,)})
        Traceback (most recent call last):
        ValueError: The state names os.system, which is not a class or function of river.
    """
    decoder = _Decoder(plain["parts"], allowed)
    for number in reversed(range(len(decoder.parts))):
        decoder.value((number,))
    for number in reversed(range(len(decoder.parts))):
        decoder.fill(number)
    return decoder.value(plain["root"])


class _Encoder:
    def __init__(self, allowed: Sequence[str]) -> None:
        self.allowed = allowed
        self.parts: list[list[Any]] = []
        self.objects: list[object] = []  # kept, since an id belongs to an object while it lives
        self._numbers: dict[int, int] = {}

    def value(self, item: object) -> Any:
        if type(item) in _ATOMS:
            return item
        if id(item) not in self._numbers:
            self._numbers[id(item)] = len(self.objects)
            self.objects.append(item)
        return (self._numbers[id(item)],)

    def part(self, item: Any) -> list[Any]:
        kind = type(item)
        if kind in _CONTAINERS.values():
            return [kind.__name__, *self._values(item)]
        if kind is dict:
            return ["dict", self._values(item), self._values(item.values())]
        if kind is bytes:
            return ["bytes", torch.tensor(list(item), dtype=torch.uint8)]
        if kind is np.ndarray or isinstance(item, np.generic):
            return ["array" if kind is np.ndarray else "scalar", _tensor(item)]
        if isinstance(item, _NAMED):
            return self._name(item)
        return self._instance(item)

    def _values(self, items: Iterable[object]) -> list[Any]:
        return [self.value(item) for item in items]

    def _name(self, item: Any) -> list[Any]:
        with suppress(ValueError):
            if _find(item.__module__, item.__qualname__, self.allowed) is item:
                return ["name", item.__module__, item.__qualname__]
        raise ValueError(f"{_full(item)} cannot be kept in a checkpoint without pickle.")

    def _instance(self, item: Any) -> list[Any]:
        try:
            make, arguments, *rest = item.__reduce_ex__(2)
        except Exception:  # it says in its own way that it has no state to give
            make, arguments, rest = None, (), []
        state, entries, pairs = (*rest, None, None, None)[:3]
        how = "call"
        if make is copyreg.__newobj__:  # type: ignore[attr-defined]
            how, (make, *arguments) = "new", arguments
        if not isinstance(make, type):
            raise ValueError(f"{_full(type(item))} cannot be kept in a checkpoint without pickle.")
        items = dict(pairs or ())
        columns = (arguments, entries or (), items, items.values())
        return [how, self.value(make), self.value(state), *map(self._values, columns)]


class _Decoder:
    def __init__(self, parts: list[list[Any]], allowed: Sequence[str]) -> None:
        self.parts, self.allowed = parts, allowed
        self._made: dict[int, Any] = {}
        self._begun: set[int] = set()
        self._filled: set[int] = set()

    def value(self, value: Any, whole: bool = False) -> Any:
        """Return what a value stands for; if `whole`, with everything in it."""
        if type(value) in _ATOMS:
            return value
        (number,) = value
        if number not in self._made:
            if number in self._begun:
                raise ValueError("The state is damaged: a part of it is made from itself.")
            self._begun.add(number)
            self._made[number] = self._make(*self.parts[number])
        if whole:
            self.fill(number, whole)
        return self._made[number]

    def fill(self, number: int, whole: bool = False) -> None:
        """Put the contents into what was made empty."""
        if number in self._filled:
            return
        self._filled.add(number)
        item, (kind, *rest) = self._made[number], self.parts[number]
        if kind in _CONTAINERS:
            values = [self.value(value, whole) for value in rest]
            if kind in ("list", "set"):
                (item.extend if kind == "list" else item.update)(values)
        elif kind in ("dict", "new", "call"):
            keys, values = ([self.value(value, whole) for value in column] for column in rest[-2:])
            if kind != "dict":
                whole_state = whole or hasattr(type(item), "__setstate__")
                _set_state(item, self.value(rest[1], whole_state))
                for entry in rest[3]:
                    # Of its class, since an attribute that came with the state may be a function.
                    type(item).append(item, self.value(entry, whole))
            for key, value in zip(keys, values, strict=True):
                item[key] = value

    def _make(self, kind: str, *rest: Any) -> Any:
        if kind in ("list", "set", "dict"):
            return {"list": list, "set": set, "dict": dict}[kind]()
        if kind in _CONTAINERS:
            return _CONTAINERS[kind](self.value(value) for value in rest)
        if kind == "name":
            return _find(rest[0], rest[1], self.allowed)
        if kind == "bytes":
            return bytes(rest[0].tolist())
        if kind in ("array", "scalar"):
            array = rest[0].cpu().numpy()
            return array if kind == "array" else array[()]
        if kind not in ("new", "call"):
            raise ValueError(f"The state is damaged: it has a part of the kind {kind!r}.")
        make = self.value(rest[0])
        if not isinstance(make, type) or issubclass(make, type):
            raise ValueError(f"The state wants to call {make!r}, which is not a class.")
        arguments = [self.value(value, whole=True) for value in rest[2]]
        return make.__new__(make, *arguments) if kind == "new" else make(*arguments)


def _set_state(item: Any, state: Any) -> None:
    if state is None:
        return
    if hasattr(type(item), "__setstate__"):
        type(item).__setstate__(item, state)
        return
    for attributes in state if isinstance(state, tuple) else (state,):  # of __dict__, of __slots__
        for name, value in (attributes or {}).items():
            setattr(item, name, value)


def _find(module: str, name: str, allowed: Sequence[str]) -> Any:
    """Return the class or function of that name, if it is one that may be used."""
    if (module, name) in _HARMLESS:
        return _HARMLESS[module, name]
    found: Any = None
    if f"{module}.".startswith(tuple(allowed)):
        with suppress(ImportError, AttributeError):
            found = attrgetter(name)(importlib.import_module(module))
    # A module also holds what it imported, and that may be anything.
    own = isinstance(found, _NAMED) and f"{found.__module__}.".startswith(tuple(allowed))
    if not own:
        modules = " or ".join(prefix.rstrip(".") for prefix in allowed)
        raise ValueError(
            f"The state names {module}.{name}, which is not a class or function of {modules}."
        )
    return found


def _full(item: Any) -> str:
    return f"{item.__module__}.{item.__qualname__}"


def _tensor(item: Any) -> torch.Tensor:
    try:
        return torch.from_numpy(np.array(item))
    except TypeError:
        raise ValueError(
            f"A numpy array of {item.dtype} cannot be kept in a checkpoint without pickle."
        ) from None
