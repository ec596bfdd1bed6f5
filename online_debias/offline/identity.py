"""What a file in a folder was made from, so that another run does not take it for its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from online_debias.data.images import Images


def fingerprint(images: Images) -> str:
    """Return a digest of pixels, targets and class names; bias annotations are left out."""
    digest = hashlib.sha256(repr((list(images.images.shape), images.classes)).encode())
    for tensor in (images.images, images.targets):
        digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def check_same(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Refuse what was written to `path` for other data or settings.

    Args:
        path: the file, for the message.
        old: settings by name, and the data's fingerprint as "data".
        new: the same of the run that wants to read the file.

    Raises:
        ValueError: they differ; names the folder and the setting.
    """
    folder = path.parent
    if old.get("data") != new["data"]:
        raise ValueError(
            f"{folder} was made from another data set; choose another folder or delete it."
        )
    for name in new:
        if old.get(name) != new[name]:
            raise ValueError(
                f"{folder} was made with {name}={old.get(name)}, not {new[name]}; choose another "
                "folder, delete it or set that again."
            )
