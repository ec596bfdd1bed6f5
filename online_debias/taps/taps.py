"""Module path -> features: hooks that hand a layer's output, pooled and flat, to the callbacks."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from online_debias.errors import ConfigError
from online_debias.taps.defaults import channels_before, classifier, first_stage, last_map

_MOST_TOKENS_BEFORE = 5  # of the patches: a class token and four registers


@dataclass(frozen=True)
class Tap:
    """Where features are read.

    Args:
        path: module path as in `model.get_submodule`.
        pool: side of the grid that a feature map is average-pooled to before it is flattened.
        reads: the module's "output", or its first "input".
        transform: applied to what is read; its result goes on through the model as well.
        width: of the flattened features; needed only by heads, and only where it cannot be told
            from the module's layers.

    Example:
        >>> Tap("layer2", pool=2)
        Tap(path='layer2', pool=2, reads='output', transform=None, width=None)
    """

    path: str
    pool: int = 1
    reads: Literal["output", "input"] = "output"
    transform: Callable[[Tensor], Tensor] | None = None
    width: int | None = None


def flatten(feature: Tensor, pool: int, channels: int | None = None) -> Tensor:
    """Average-pool a map to a grid of `pool` x `pool` places and flatten it to `[B, D]`.

    Args:
        feature: a map `[B, C, H, W]`, or `[B, H, W, C]` where its last side alone is `channels`;
            tokens `[B, T, C]`, which are a map if they are a square of patches, without the up to
            five tokens before them, and a grid is asked for, and are averaged over `T` if not; or
            vectors `[B, C]`, which stay as they are.
        pool: side of the grid.
        channels: how many there are, if that is known.

    Example:
        >>> import torch
        >>> flatten(torch.zeros(2, 3, 8, 8), 2).shape, flatten(torch.zeros(2, 17, 3), 2).shape
        (torch.Size([2, 12]), torch.Size([2, 12]))
    """
    if feature.ndim == 3 and pool > 1:
        side = math.isqrt(feature.shape[1])
        before = feature.shape[1] - side**2
        if side >= pool and before <= _MOST_TOKENS_BEFORE:
            feature = feature[:, before:].transpose(1, 2).unflatten(2, (side, side))
    elif feature.ndim == 4 and feature.shape[3] == channels and channels not in feature.shape[1:3]:
        feature = feature.movedim(3, 1)
    if feature.ndim == 4:
        return F.adaptive_avg_pool2d(feature, pool).flatten(1)
    return feature.mean(1) if feature.ndim == 3 else feature.flatten(1)


class Taps:
    """Reads features in training steps; attach before `torch.compile`.

    Of a module that is called several times in a forward pass, the first call is read.

    Args:
        model: the model; wrappers of compile and DistributedDataParallel are looked through.
        taps: name -> module path or `Tap`; adds to the defaults "bottleneck" (the input of the
            last Linear), "shallow" (the output of the first stage, on a 2x2 grid), "local" (the
            same on a 7x7 grid) and "parts" (the last feature map, on a 6x6 grid), which find
            themselves as `default_taps` says.
        needed: names that callbacks read; only these and those with a transform get a hook.

    Raises:
        ValueError: a path is not in the model, a needed name is unknown, or a default cannot be
            found in this model; names the nearest ones.
    """

    def __init__(
        self, model: nn.Module, taps: Mapping[str, str | Tap] | None, needed: Iterable[str]
    ) -> None:
        model = _unwrap(model)
        given = {
            name: Tap(tap, pool=_default_pool(name)) if isinstance(tap, str) else tap
            for name, tap in (taps or {}).items()
        }
        self.names = sorted({*needed, *(name for name, tap in given.items() if tap.transform)})
        self._features: dict[str, Tensor] | None = None
        self._wanted: set[str] = set()
        self._widths: dict[str, int | None] = {}
        self._promised: set[str] = set()  # widths that heads were built for
        self._handles: list[RemovableHandle] = []
        for tap in given.values():
            _find(model, tap.path)
            if tap.pool < 1:
                raise ValueError(f"Tap {tap.path!r}: pool is {tap.pool}, expected at least 1.")
        for name in self.names:
            self._attach(model, name, given.get(name) or _default(model, name, given))

    def start(self, wanted: Iterable[str] | None = None) -> None:
        """Read the features `wanted`, or all, in the forward pass that follows."""
        self._wanted = set(self.names if wanted is None else wanted)
        self._features = {}

    def finish(self) -> dict[str, Tensor]:
        """Return the features read since `start`, and stop reading.

        Raises:
            ConfigError: a tap did not fire in the forward pass, or is not as wide as promised.
        """
        features, self._features = self._features or {}, None
        missing = sorted(self._wanted - features.keys())
        if missing:
            raise ConfigError(
                f"Tap {missing[0]!r} did not fire in the forward pass; point it at a module that "
                "the model calls, and create the engine before torch.compile."
            )
        for name in self._promised & features.keys():
            found, told = features[name].shape[1], self._widths[name]
            if found != told:
                raise ConfigError(
                    f"Tap {name!r} has {found} features, but its layers look like {told}; say so "
                    f"with Tap(path, width={found})."
                )
        return features

    def width(self, name: str) -> int:
        """Return the width of a tap's features, as far as its layers tell.

        Raises:
            ValueError: they do not; the tap must be given with its width.
        """
        width = self._widths[name]
        if width is None:
            raise ValueError(
                f"The layers at tap {name!r} do not tell how many features it has; give it as "
                f'taps={{"{name}": Tap(path, width=...)}}.'
            )
        self._promised.add(name)
        return width

    def remove(self) -> None:
        """Detach all hooks from the model."""
        for handle in self._handles:
            handle.remove()

    def _attach(self, model: nn.Module, name: str, tap: Tap) -> None:
        module = _find(model, tap.path)
        channels = _channels(module, tap)

        def read(feature: Tensor) -> Tensor | None:
            if not isinstance(feature, Tensor):
                raise ConfigError(
                    f"Tap {name!r} reads a {type(feature).__name__} at {tap.path!r}, expected a "
                    "tensor; point it at a module inside or after that one."
                )
            changed = None if tap.transform is None else tap.transform(feature)
            if self._features is not None and name in self._wanted - self._features.keys():
                shown = feature if changed is None else changed
                self._features[name] = flatten(shown, tap.pool, channels)
            return changed

        def on_output(module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
            return read(output)

        def on_input(module: nn.Module, args: Any) -> tuple[Any, ...] | None:
            changed = read(args[0])
            return None if changed is None else (changed, *args[1:])

        self._widths[name] = tap.width or _width(module, tap, channels)
        self._handles.append(
            module.register_forward_hook(on_output)
            if tap.reads == "output"
            else module.register_forward_pre_hook(on_input)
        )


def _channels(module: nn.Module, tap: Tap) -> int | None:
    """What the last layer that says how many channels it has says."""
    names: tuple[str, ...] = ("out_features", "out_channels", "num_features")
    layers = list(module.modules())
    if tap.reads == "input":
        names, layers = ("in_features", "in_channels", "num_features"), [module]
    found = [getattr(layer, name) for layer in layers for name in names if hasattr(layer, name)]
    if isinstance(layers[-1], nn.LayerNorm):
        found.append(layers[-1].normalized_shape[-1])
    return int(found[-1]) if found else None


def _width(module: nn.Module, tap: Tap, channels: int | None) -> int | None:
    """The channels times the places of the grid; what ends in a Linear has no places."""
    last = module if tap.reads == "input" else list(module.modules())[-1]
    return channels and channels * (1 if isinstance(last, nn.Linear) else tap.pool**2)


def _unwrap(model: nn.Module) -> nn.Module:
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return _unwrap(model.module)
    compiled = getattr(model, "_orig_mod", None)
    return _unwrap(compiled) if isinstance(compiled, nn.Module) else model


def _find(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError:
        paths = [name for name, _ in model.named_modules() if name]
        near = difflib.get_close_matches(path, paths, n=3, cutoff=0.3) or paths[:3]
        raise ValueError(
            f"The model has no module {path!r} to tap; the nearest are {', '.join(near)}."
        ) from None


def _default_pool(name: str) -> int:
    return {"shallow": 2, "local": 7, "parts": 6}.get(name, 1)


def _default(model: nn.Module, name: str, given: Mapping[str, Tap]) -> Tap:
    if name == "bottleneck":
        if (path := classifier(model)) is not None:
            return Tap(path, reads="input")
    elif name in ("shallow", "local"):
        if (path := first_stage(model)) is not None:
            # A pooling layer does not say how many channels it has; the layer before it does.
            known = _channels(model.get_submodule(path), Tap(path))
            channels = None if known else channels_before(model, path)
            pool = _default_pool(name)
            return Tap(path, pool=pool, width=channels and pool**2 * channels)
    elif name == "parts":
        if (where := last_map(model)) is not None:
            return Tap(where[0], pool=_default_pool(name), reads=where[1])
    else:
        near = ", ".join(sorted({*given, "bottleneck", "local", "parts", "shallow"}))
        raise ValueError(f"There is no tap called {name!r}; the taps are {near}.")
    raise ValueError(
        f"The model {type(model).__name__} has no default tap {name!r}; say where it is: "
        f'taps={{"{name}": "<module path>"}}.'
    )
