"""One random stream a consumer, so that adding a monitor changes no number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def fixed(seed: int, *names: str | int) -> Iterator[None]:
    """Around code that draws from the global stream, such as layers that initialise themselves.

    It draws from the stream of the consumer called `names`; the global one is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        # Of the CPU alone: `torch.manual_seed` would seed every GPU too, and leave it so.
        torch.default_generator.manual_seed(derive(seed, *names))
        yield
