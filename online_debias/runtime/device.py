"""The device that a setting names."""

from __future__ import annotations

import os
import re

import torch


def device_of(name: str) -> str:
    """Return the device called `name`; "auto" is a GPU if there is one, one for each rank.

    Raises:
        ValueError: there is no such device here.
    """
    if name == "auto":
        own = int(os.environ.get("LOCAL_RANK", "0"))
        return f"cuda:{own}" if own < torch.cuda.device_count() else "cpu"
    found = re.fullmatch(r"cuda(?::(\d+))?", name)
    if name == "cpu" or (found and int(found[1] or 0) < torch.cuda.device_count()):
        return name
    raise ValueError(f"device is {name!r}, but there is none here; choose cpu, cuda or auto.")
