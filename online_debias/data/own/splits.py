"""Which samples are held out where nobody says: a share of every class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from online_debias.runtime.seeds import generator

NAMES = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


def check_shares(shares: Mapping[str, float]) -> None:
    """Refuse shares that leave nothing to train or to test on.

    Raises:
        ValueError: naming the share.
    """
    for name, share in shares.items():
        if not 0 <= share < 1 or (name == "test" and share == 0):
            least = "above 0" if name == "test" else "from 0"
            raise ValueError(
                f"{name}={share} is no share to hold out, expected a number {least} to below 1."
            )
    if sum(shares.values()) >= 1:
        given = " and ".join(f"{name}={share}" for name, share in shares.items())
        raise ValueError(
            f"{given} leave nothing to train on; choose shares that add up to less than 1."
        )


def hold_out(
    targets: Sequence[int], classes: Sequence[str], shares: Mapping[str, float], seed: int
) -> dict[str, list[int]]:
    """Divide samples at random, class by class; what is held out is as biased as the rest.

    Every split gets the share it asks for, rounded, and at least one sample of each class.

    Args:
        targets: the class of each sample.
        classes: the names of the classes.
        shares: split name -> share of each class, in [0, 1); a share of 0 is no split.
        seed: decides which.

    Returns:
        Split name -> rows in ascending order, and "train" -> the rest.

    Raises:
        ValueError: a class has no samples, or fewer than there are splits; it is named.

    Example:
        >>> found = hold_out([0, 0, 0, 0, 1, 1], ("cat", "dog"), {"test": 0.25}, seed=0)
        >>> [len(found[name]) for name in ("train", "test")]
        [4, 2]
    """
    asked = {name: share for name, share in shares.items() if share > 0}
    found: dict[str, list[int]] = {name: [] for name in ("train", *asked)}
    rows_of: dict[int, list[int]] = {target: [] for target in range(len(classes))}
    for row, target in enumerate(targets):
        rows_of[target].append(row)
    for target, rows in rows_of.items():
        if not rows:
            raise ValueError(
                f"Class {classes[target]!r} has no images; add some, or leave it out of the "
                "classes."
            )
        if len(rows) <= len(asked):
            raise ValueError(
                f"Class {classes[target]!r} has {len(rows)} images, too few to hold out "
                f"{' and '.join(asked)}; add some, or say which images are which split."
            )
        stream = generator("cpu", seed, "hold out", target)
        order = torch.randperm(len(rows), generator=stream).tolist()
        for name, share in asked.items():
            n_held = min(max(1, round(share * len(rows))), len(order) - 1)
            found[name] += [rows[position] for position in order[:n_held]]
            order = order[n_held:]
        found["train"] += [rows[position] for position in order]
    return {name: sorted(rows) for name, rows in found.items()}
