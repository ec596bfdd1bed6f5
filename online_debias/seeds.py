"""One random stream a consumer, so that adding a monitor changes no number."""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed for the consumer called `names`.

    Example:
        >>> derive(0, "trees") == derive(0, "trees"), derive(0, "trees") == derive(0, "mix")
        (True, False)
    """
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(device: torch.device | str, seed: int, *names: str | int) -> torch.Generator:
    """Return a generator on `device`, seeded for the consumer called `names`.

    A consumer that puts the step among the names needs no random state in a checkpoint.
    """
    return torch.Generator(device).manual_seed(derive(seed, *names))
