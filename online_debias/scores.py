"""scores.csv: which training samples look bias-conflicting, and what bias they look like."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from online_debias.checkpoint import write_whole

COLUMNS = ("index", "target", "score", "bias_group")


class Scores(NamedTuple):
    """Pseudo-labels of all training samples, in their order.

    Attributes:
        targets: `[N]` int64.
        score: `[N]` float32 in [0, 1], high = bias-conflicting.
        bias_group: `[N]` int64, the pseudo bias label.
    """

    targets: Tensor
    score: Tensor
    bias_group: Tensor


def write(path: Path, scores: Scores) -> None:
    """Write the file, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    columns = (column.tolist() for column in scores)
    for index, (target, score, group) in enumerate(zip(*columns, strict=True)):
        writer.writerow([index, target, f"{score:.6g}", group])
    write_whole(path, text.getvalue().encode())


def read(path: Path) -> Scores:
    """Read the file; further columns are left aside.

    Raises:
        ValueError: in one sentence, there is no such file, or it is not what `write` writes.
    """
    expected = f"expected a CSV file with the columns {','.join(COLUMNS)}, a row a training sample"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        found = [tuple(float(row[name]) for name in COLUMNS) for row in rows]
    except FileNotFoundError:
        raise ValueError(f"There is no file of scores {path}; {expected}.") from None
    except (KeyError, ValueError, TypeError, OSError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as scores, {expected} ({error!r}).") from error
    if not found:
        raise ValueError(f"{path} has no rows, {expected}.")
    index, target, score, group = torch.tensor(found, dtype=torch.float64).unbind(1)
    whole = all(torch.equal(column, column.long().double()) for column in (target, group))
    if not torch.equal(index, torch.arange(len(found)).double()) or not whole:
        raise ValueError(f"{path} has samples left out or labels that are no numbers, {expected}.")
    if not ((score >= 0) & (score <= 1)).all() or int(group.min()) < 0:
        raise ValueError(f"{path} has a score outside [0, 1] or a bias_group below 0, {expected}.")
    return Scores(target.long(), score.float(), group.long())
