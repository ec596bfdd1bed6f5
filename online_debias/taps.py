"""Module path -> features: hooks that hand a layer's output, pooled and flat, to the callbacks."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


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
    """

    path: str
    pool: int = 1
    reads: Literal["output", "input"] = "output"
    transform: Callable[[Tensor], Tensor] | None = None
    width: int | None = None


def flatten(feature: Tensor, pool: int) -> Tensor:
    """Average-pool a map `[B, C, H, W]` to a grid and flatten it to `[B, D]`.

    Tokens `[B, T, C]` are averaged over `T`; `[B, C]` stays as it is.
    """
    if feature.ndim == 4:
        return F.adaptive_avg_pool2d(feature, pool).flatten(1)
    return feature.mean(1) if feature.ndim == 3 else feature.flatten(1)


class Taps:
    """Reads features in training steps; attach before `torch.compile`.

    Args:
        model: the model; wrappers of compile and DistributedDataParallel are looked through.
        taps: name -> module path or `Tap`; adds to the defaults "bottleneck" (the input of the
            last Linear) and "shallow" (the output of the first stage, on a 2x2 grid).
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
        self._widths: dict[str, int | None] = {}
        self._promised: set[str] = set()  # widths that heads were built for
        self._handles: list[RemovableHandle] = []
        for tap in given.values():
            _find(model, tap.path)
        for name in self.names:
            self._attach(model, name, given.get(name) or _default(model, name, given))

    def start(self) -> None:
        """Read features in the forward pass that follows."""
        self._features = {}

    def finish(self) -> dict[str, Tensor]:
        """Return the features read since `start`, and stop reading.

        Raises:
            RuntimeError: a tap did not fire in the forward pass.
        """
        features, self._features = self._features or {}, None
        missing = [name for name in self.names if name not in features]
        if missing:
            raise RuntimeError(
                f"Tap {missing[0]!r} did not fire in the forward pass; point it at a module that "
                "the model calls, and create the engine before torch.compile."
            )
        for name in self._promised & features.keys():
            found, told = features[name].shape[1], self._widths[name]
            if found != told:
                raise ValueError(
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
        def read(feature: Tensor) -> Tensor | None:
            changed = None if tap.transform is None else tap.transform(feature)
            if self._features is not None:
                self._features[name] = flatten(feature if changed is None else changed, tap.pool)
            return changed

        def on_output(module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
            return read(output)

        def on_input(module: nn.Module, args: Any) -> tuple[Any, ...] | None:
            changed = read(args[0])
            return None if changed is None else (changed, *args[1:])

        module = _find(model, tap.path)
        self._widths[name] = tap.width or _layer_width(module, tap)
        self._handles.append(
            module.register_forward_hook(on_output)
            if tap.reads == "output"
            else module.register_forward_pre_hook(on_input)
        )


def _layer_width(module: nn.Module, tap: Tap) -> int | None:
    """The channels of the last layer that says how many, times the places of the grid."""
    names: tuple[str, ...] = ("out_features", "out_channels", "num_features")
    layers = list(module.modules())
    if tap.reads == "input":
        names, layers = ("in_features", "in_channels", "num_features"), [module]
    found = [getattr(layer, name) for layer in layers for name in names if hasattr(layer, name)]
    if not found:
        return None
    return int(found[-1]) * (1 if isinstance(layers[-1], nn.Linear) else tap.pool**2)


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
    return 2 if name == "shallow" else 1


def _default(model: nn.Module, name: str, given: Mapping[str, Tap]) -> Tap:
    modules = dict(model.named_modules())
    if name == "bottleneck":
        linear = [path for path, module in modules.items() if isinstance(module, nn.Linear)]
        if linear:
            return Tap(linear[-1], reads="input")
    elif name == "shallow":
        pooling = (nn.MaxPool2d, nn.AvgPool2d)
        pools = [path for path, module in modules.items() if isinstance(module, pooling)]
        named = [path for path in modules if path.rpartition(".")[2] in ("stage1", "layer1")]
        stages = named or pools
        if stages:
            return Tap(stages[0], pool=2)
    else:
        near = ", ".join(sorted({*given, "bottleneck", "shallow"}))
        raise ValueError(f"There is no tap called {name!r}; the taps are {near}.")
    raise ValueError(
        f"The model {type(model).__name__} has no default tap {name!r}; say where it is: "
        f'taps={{"{name}": "<module path>"}}.'
    )
