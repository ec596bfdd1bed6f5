"""One file a checkpoint: written whole or not at all, read by a restricted unpickler."""

from __future__ import annotations

import errno
import io
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from online_debias.errors import ConfigError

FORMAT = 4
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to a temporary name beside `path`, then rename it.

    Raises:
        OSError: the disk is full or the folder unwritable; nothing half-written stays behind.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        mend = "free some space or " if error.errno in _FULL else ""
        raise OSError(
            f"Cannot write {path}: {error.strerror}; {mend}choose another folder."
        ) from error


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be made because a file is in its way.

    Raises:
        ConfigError: names the file.
    """
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise ConfigError(
                f"The folder {folder} cannot be made, since {place} is a file; choose another "
                "folder with --run."
            )


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Save `state` (tensors, numbers, strings and containers of them) to `path`.

    Raises:
        OSError: it cannot be written; a file that was there before is left as it is.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    write_whole(path, buffer.getvalue())


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Load a checkpoint that `save` wrote.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is cut short, holds a pickled object, or is of another format.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}; name the folder of a run.")
    unreadable = f"{path} is cut short or not a checkpoint; delete it and use another one."
    if not zipfile.is_zipfile(path):  # what `save` writes is one; others are not even opened
        raise ValueError(unreadable)
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds pickled objects, which are not loaded because they can run code; "
            "use a checkpoint written by this library."
        ) from error
    except Exception as error:  # bytes that mean nothing lead the reader anywhere
        raise ValueError(unreadable) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not a checkpoint of format {FORMAT}; use one written by this version."
        )
    return state


def save_weights(path: Path, model: nn.Module) -> None:
    """Write a model's weights as safetensors, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    state = model.state_dict()
    tensors = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
    write_whole(path, safetensors.torch.save(tensors))


def load_weights(path: Path, model: nn.Module, otherwise: str) -> None:
    """Load what `save_weights` wrote into a model of the same kind, strictly.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigError: the file is damaged or of another network; says `otherwise`.
    """
    try:
        model.load_state_dict(safetensors.torch.load_file(path))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise ConfigError(otherwise) from error
