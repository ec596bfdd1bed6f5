"""The command line of the comparisons of a step: what they are given, and the file they write."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from online_debias.data import Images

# Where step_cost's modules are.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "speed"))

from step_cost import SETTINGS, Model, what_of, write  # noqa: E402

Measure = Callable[[Model, Images, int, int], list[list[Any]]]


def command(about: str, name: str, beside: Sequence[str], measure: Measure) -> None:
    """Measure with one thread, and write `name`.csv unless it is to be quick.

    Args:
        about: what is measured.
        name: of the results file.
        beside: the loops that others are divided by, in the order of the columns.
        measure: returns rows (loop, milliseconds, ratios) of a network, images, the batch size and
            the number of rounds.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="one round; nothing is written")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(*what_of(SETTINGS[0]), 1 if given.quick else given.rounds)
    if not given.quick:
        ratios = [f"ratio_to_{loop.replace(' ', '_')}" for loop in beside]
        heads = ["setting", "loop", "milliseconds_per_step", *ratios]
        write(name, heads, [[SETTINGS[0], *row] for row in rows])
