"""Where the results files are, and how one is written."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "results"


def write(name: str, heads: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write `name`.csv anew."""
    with (RESULTS / f"{name}.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([heads, *rows])
