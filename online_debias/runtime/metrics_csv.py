"""metrics.csv: every number of a run, one a row."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from online_debias.errors import ConfigError


class Row(NamedTuple):
    """A number: its step, the epochs that had ended by then, and what it is called."""

    step: int
    epoch: int
    split: str
    name: str
    value: float


COLUMNS = ",".join(Row._fields)


def read(path: Path) -> list[Row]:
    """Return the rows in the file's order.

    Raises:
        ConfigError: the file is missing or damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        if header != [*Row._fields]:
            raise ValueError(header)
        return [
            Row(int(step), int(epoch), split, name, float(value))
            for step, epoch, split, name, value in rows
        ]
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigError(
            f"{path} cannot be read, expected the columns {COLUMNS} ({error!r}); delete the run "
            "to train it again."
        ) from error
