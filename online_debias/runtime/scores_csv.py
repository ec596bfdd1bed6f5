"""scores.csv: which training samples look bias-conflicting, and what bias they look like."""

from __future__ import annotations

import csv
import io
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from online_debias.runtime.checkpoint import write_whole

COLUMNS = ("index", "path", "target", "score", "bias_label", "times_drawn", "loss", "noise")
_NEEDED = ("index", "target", "score", "bias_label")


class Scores(NamedTuple):
    """Pseudo-labels of all training samples, in their order.

    Attributes:
        targets: `[N]` int64.
        score: `[N]` float32 in [0, 1], high = bias-conflicting; NaN where it is not known.
        bias_label: `[N]` int64, the pseudo bias label; -1 where it is not known.
    """

    targets: Tensor
    score: Tensor
    bias_label: Tensor

    @classmethod
    def unknown(cls, targets: Tensor) -> Scores:
        """Return what is known of samples of which nothing is: their targets `[N]`."""
        score = torch.full((len(targets),), torch.nan)
        return cls(targets, score, torch.full_like(targets, -1))


class Details(NamedTuple):
    """What else a run knows of its training samples; None for what it does not know.

    Attributes:
        paths: N files that the samples were read from.
        times_drawn: `[N]` int64, how many rows each had in training.
        loss: `[N]` float32, its latest cross-entropy; NaN where it was not seen.
        noise: `[N]` float32 in [0, 1], how likely its label is wrong; NaN where it was not seen.
    """

    paths: tuple[str, ...] | None = None
    times_drawn: Tensor | None = None
    loss: Tensor | None = None
    noise: Tensor | None = None


def write(path: Path, scores: Scores, details: Details | None = None) -> None:
    """Write the file, whole or not at all; what is not known is an empty cell.

    Raises:
        OSError: it cannot be written.
    """
    n, details = len(scores.targets), details or Details()
    columns = (
        range(n),
        details.paths or [""] * n,
        scores.targets.tolist(),
        _numbers(scores.score, n),
        ["" if group < 0 else str(group) for group in scores.bias_label.tolist()],
        [""] * n if details.times_drawn is None else details.times_drawn.tolist(),
        _numbers(details.loss, n),
        _numbers(details.noise, n),
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(zip(*columns, strict=True))
    # A file's name need not be text; surrogateescape gives back the bytes that it has.
    write_whole(path, text.getvalue().encode(errors="surrogateescape"))


def read(path: Path) -> Scores:
    """Read the pseudo-labels; further columns, and all that is in them, are left aside.

    A sample whose score is not known, since training never drew it as it is, counts as
    bias-aligned: its score is 0. One without a `bias_label` has its own target as such.

    Raises:
        ValueError: in one sentence, there is no such file, or it is not what `write` writes.
    """
    targets, score, group = _scores(path, _rows(path))
    unseen = score.isnan()
    group = torch.where(unseen | (group < 0), targets, group)
    return Scores(targets, score.nan_to_num(0.0), group)


def read_all(path: Path) -> tuple[Scores, Details]:
    """Read everything that `write` wrote, and nothing but what was known then.

    Raises:
        ValueError: as in `read`, also for what is no number in a further column.
    """
    rows = _rows(path)
    paths = tuple(row.get("path") or "" for row in rows)
    drawn = _optional(path, rows, "times_drawn")
    details = Details(
        paths if any(paths) else None,
        None if drawn is None else drawn.nan_to_num(0.0).long(),
        _optional(path, rows, "loss"),
        _optional(path, rows, "noise"),
    )
    return _scores(path, rows), details


def _numbers(values: Tensor | None, n: int) -> Sequence[str]:
    if values is None:
        return [""] * n
    return ["" if math.isnan(value) else f"{value:.6g}" for value in values.tolist()]


def _expected() -> str:
    return f"expected a CSV file with the columns {','.join(_NEEDED)}, a row a training sample"


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise ValueError(f"There is no file of scores {path}; {_expected()}.") from None
    except (OSError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as scores, {_expected()} ({error!r}).") from error
    if not rows:
        raise ValueError(f"{path} has no rows, {_expected()}.")
    if "bias_label" not in rows[0] and "bias_group" in rows[0]:
        warnings.warn(
            f"{path} has the column bias_group, which is called bias_label now; rename it.",
            DeprecationWarning,
            stacklevel=3,
        )
        rows = [{**row, "bias_label": row["bias_group"]} for row in rows]
    return rows


def _column(rows: list[dict[str, str]], name: str) -> Iterator[float]:
    """Give the numbers of a column, NaN for an empty cell.

    Raises:
        ValueError: a cell holds something else, also the word nan.
    """
    for row in rows:
        value = float(row[name]) if row[name] != "" else math.nan
        if row[name] and not math.isfinite(value):
            raise ValueError(f"{name}: {row[name]}")
        yield value


def _scores(path: Path, rows: list[dict[str, str]]) -> Scores:
    try:
        found = [list(_column(rows, name)) for name in _NEEDED]
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path} cannot be read as scores, {_expected()} ({error!r}).") from error
    index, target, score, group = torch.tensor(found, dtype=torch.float64)
    whole = all(
        torch.equal(column, column.long().double()) for column in (target, group[~group.isnan()])
    )
    if not torch.equal(index, torch.arange(len(rows)).double()) or not whole:
        raise ValueError(
            f"{path} has samples left out or labels that are no numbers, {_expected()}."
        )
    if ((score < 0) | (score > 1)).any() or (group < 0).any():
        raise ValueError(
            f"{path} has a score outside [0, 1] or a bias_label below 0, {_expected()}."
        )
    return Scores(target.long(), score.float(), group.nan_to_num(-1.0).long())


def _optional(path: Path, rows: list[dict[str, str]], name: str) -> Tensor | None:
    if name not in rows[0]:
        return None
    try:
        found = torch.tensor(list(_column(rows, name)))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} has something other than numbers in its column {name} ({error!r}); mend it, "
            "or write the file anew with `online-debias score`."
        ) from error
    return None if found.isnan().all() else found
