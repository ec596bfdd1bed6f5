"""Weights from a file that nothing can hide code in."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

_CONTAINERS = ("state_dict", "model")
_WRAPPERS = ("module.", "_orig_mod.", "net.")  # of DistributedDataParallel, of compile, and ours


def read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors file or one of `torch.save`, by name.

    A state dict may lie under "state_dict" or "model".

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds something else than tensors.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of weights {path}; check the path.")
    try:
        if path.suffix == ".safetensors":
            state: Any = safetensors.torch.load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of other pickles; what is wrong is said below
                state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is damaged or holds pickled objects, which are not loaded because they can "
            "run code; save the weights alone, torch.save(model.state_dict(), path)."
        ) from error
    except Exception as error:  # bytes that mean nothing lead the reader anywhere
        raise ValueError(
            f"{path} is damaged or no file of weights; get it again, or save a state dict with "
            "torch.save or as .safetensors."
        ) from error
    for name in _CONTAINERS:
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
    if not isinstance(state, Mapping) or not all(isinstance(x, Tensor) for x in state.values()):
        raise ValueError(
            f"{path} holds {type(state).__name__} with more than tensors in it, expected a state "
            "dict; save the weights alone, torch.save(model.state_dict(), path)."
        )
    return {str(name): value for name, value in state.items()}


def load(net: nn.Module, path: Path, last: str | None, left_out: tuple[str, ...] = ()) -> None:
    """Load the weights of a file into a network, strictly.

    Where no name is the network's, and all begin as a wrapper's do ("module.", "_orig_mod.",
    "net."), that beginning is cut off.

    Args:
        net: the network.
        path: see `read`.
        last: module path of the last layer; its weights are skipped where their shapes do not fit.
        left_out: modules that the network no longer has; the file's weights of them are skipped.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, or its weights do not fit; names the first that does
            not.
    """
    shapes = {name: list(value.shape) for name, value in net.state_dict().items()}
    state = read(path)
    for wrapper in _WRAPPERS:
        if not state.keys() & shapes.keys() and all(name.startswith(wrapper) for name in state):
            state = {name.removeprefix(wrapper): value for name, value in state.items()}
    misfits = [n for n in state if n in shapes and list(state[n].shape) != shapes[n]]
    of_last = {n for n in shapes if last and n.rpartition(".")[0] == last}
    skipped = of_last if of_last & set(misfits) else set()
    kept = {
        name: value
        for name, value in state.items()
        if name not in skipped and name.partition(".")[0] not in left_out
    }
    wrong = [n for n in misfits if n in kept]
    if not wrong:
        found = net.load_state_dict(kept, strict=False)
        missing = [n for n in found.missing_keys if n not in skipped]
        if not (missing or found.unexpected_keys):
            return
        parts = [("lacks", missing), ("has the unexpected", found.unexpected_keys)]
        said = " and ".join(f"{verb} {_first(names)}" for verb, names in parts if names)
    else:
        name = wrong[0]
        said = f"has {name!r} of shape {list(state[name].shape)}, expected {shapes[name]}"
    raise ValueError(
        f"The weights in {path} are not those of a {type(net).__name__} like this one: the file "
        f"{said}; give weights of the same network."
    )


def _first(names: list[str]) -> str:
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"{names[0]!r}{more}"
