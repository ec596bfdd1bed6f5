"""The tables of docs/scorers.md, from the rows that scorers.py wrote."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator
from itertools import product

TAPS = ("bottleneck", "shallow", "local")
KEY = ("data", "ratio", "seed", "trained", "epoch", "tap", "scorer", "library")
COLUMNS = (*KEY, "auroc", "average_precision", "seconds")


def table(rows: list[dict[str, str]]) -> str:
    """Return AUROC and average precision by tap, then by data set, as two Markdown tables.

    Args:
        rows: of the results file.

    Example:
        >>> row = dict.fromkeys(COLUMNS, "0.5") | {"scorer": "Loda", "library": "ours"}
        >>> row |= {"data": "digits", "trained": "plain", "epoch": "1", "tap": "shallow"}
        >>> table([row]).splitlines()[2]
        '| Loda | ours |  | 0.500 / 0.500 |  | 0.50 |  |'
    """
    sets = {(row["data"], row["ratio"]) for row in rows}
    used: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        used[row["library"]].add(row["seed"])
    counts = ", ".join(f"{library} {len(found)}" for library, found in used.items())
    return (
        f"{_by_tap(rows)}\n\nAUROC / average precision, means over {len(sets)} data sets; seeds: "
        f"{counts}.\n\n{_by_data(rows)}\n\nAverage precision at one tap, of `plain` after epoch 1 "
        "/ of `online` after the last."
    )


def _by_tap(rows: list[dict[str, str]]) -> str:
    models = sorted({(row["trained"], row["epoch"]) for row in rows}, key=_plain_first)
    heads = [f"{trained}, epoch {epoch}: {tap}" for trained, epoch in models for tap in TAPS]
    lines = _head(["scorer", "library", *heads, "seconds, 32 features", "seconds, 392 features"])
    for (name, library), own in _by_scorer(rows):
        cells = []
        for one in product(models, TAPS):
            found = [row for row in own if _place(row) == (*one[0], one[1])]
            means = (_mean(found, metric) for metric in ("auroc", "average_precision"))
            cells.append(" / ".join(means) if found else "")
        for taps in (("bottleneck", "shallow"), ("local",)):
            seconds = [float(row["seconds"]) for row in own if row["tap"] in taps]
            cells.append(f"{statistics.median(seconds):.2f}" if seconds else "")
        lines.append(f"| {' | '.join([name, library, *cells])} |")
    return "\n".join(lines)


def _by_data(rows: list[dict[str, str]]) -> str:
    """At the tap that every scorer but `BestViews` and the loss can read, in a cell for each set.

    The model that was trained plainly for one epoch is where an online method has to begin, the
    one that it trained is what it has made of it.
    """
    sets = sorted({(row["data"], row["ratio"]) for row in rows}, key=_digits_first)
    lines = _head(["scorer", "library", "tap", *(f"{data}, {ratio}" for data, ratio in sets)])
    for (name, library), own in _by_scorer(rows):
        tap = {"BestViews": "local", "loss": "logits"}.get(name, "shallow")
        own = [row for row in own if row["tap"] == tap]
        cells = []
        for one in sets:
            of_set = [row for row in own if (row["data"], row["ratio"]) == one]
            plain = [row for row in of_set if (row["trained"], row["epoch"]) == ("plain", "1")]
            online = [row for row in of_set if row["trained"] == "online"]
            both = (_mean(found, "average_precision") for found in (plain, online))
            cells.append(" / ".join(both) if of_set else "")
        lines.append(f"| {' | '.join([name, library, tap, *cells])} |")
    return "\n".join(lines)


def _by_scorer(
    rows: list[dict[str, str]],
) -> Iterator[tuple[tuple[str, str], list[dict[str, str]]]]:
    for one in dict.fromkeys((row["scorer"], row["library"]) for row in rows):
        yield one, [row for row in rows if (row["scorer"], row["library"]) == one]


def _head(names: list[str]) -> list[str]:
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]


def _mean(rows: list[dict[str, str]], metric: str) -> str:
    """The mean over data sets of the means over seeds, since slow scorers have fewer of these."""
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        values[row["data"], row["ratio"]].append(float(row[metric]))
    return f"{statistics.fmean(map(statistics.fmean, values.values())):.3f}" if values else "-"


def _place(row: dict[str, str]) -> tuple[str, str, str]:
    """The column of a row; the loss is read behind the bottleneck."""
    tap = "bottleneck" if row["tap"] == "logits" else row["tap"]
    return row["trained"], row["epoch"], tap


def _plain_first(model: tuple[str, str]) -> tuple[bool, int]:
    return model[0] != "plain", int(model[1])


def _digits_first(key: tuple[str, str]) -> tuple[bool, str, str]:
    return not key[0].startswith("digits"), *key
