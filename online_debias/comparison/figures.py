"""How pictures look: panels, the style of each method, means with their deviations, names."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from online_debias.comparison.summary import Value
from online_debias.runtime.checkpoint import write_whole

if TYPE_CHECKING:  # slow to import, so it is done where a figure is made
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
LEGEND_ROW = 0.19  # inches

# Okabe and Ito's, which the colour-blind tell apart; their yellow is darkened to be seen on white.
_COLOURS = ["#888888", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2"]
_COLOURS += ["#B5A800", "#D55E00", "#000000"]
_MARKERS, _LINES = "os^DvPX<>", ("-", "--", ":", "-.")

# Places of a name, in steps to the right of its point and up, the best first.
_BESIDE = [(1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1), (0, 2), (0, -2)]
_BESIDE += [(1, 2), (1, -2), (-1, 2), (-1, -2)]
_ALIGNED = {-1: "right", 0: "center", 1: "left"}


class Style(NamedTuple):
    """How a method is drawn."""

    colour: str
    marker: str
    line: str


class Point(NamedTuple):
    """Mean over seeds and standard deviation, 0 of one seed, at a place."""

    x: float
    mean: float
    std: float


def style(methods: Iterable[str]) -> dict[str, Style]:
    """Return colour, marker and line of each method, by its place among them.

    Example:
        >>> style(["plain", "online"])["plain"]
        Style(colour='#888888', marker='o', line='-')
    """
    n, found = len(_COLOURS), {}
    for i, method in enumerate(dict.fromkeys(methods)):
        marker = _MARKERS[(i + i // n) % n]  # another one when the colours are used up
        found[method] = Style(_COLOURS[i % n], marker, _LINES[i // n % len(_LINES)])
    return found


def point(x: float, value: Value, scale: float = 1) -> Point:
    """Return the point of a value, times `scale`, at `x`.

    Example:
        >>> point(3, Value(0.5, 0.25), 100)
        Point(x=3, mean=50.0, std=25.0)
    """
    return Point(x, scale * value.mean, scale * (value.std or 0))


def figure(n_rows: int, n_columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """Return a picture as wide as the text of a paper, `height` inches high; panels share y."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(6.5, height), dpi=DPI, layout="constrained")
    panels = list(made.subplots(n_rows, n_columns, sharey=True, squeeze=False).flat)
    for axes in panels:
        axes.grid(color="#E4E4E4", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set_size(9)
    return made, panels


def draw(
    axes: Axes,
    points: Sequence[Point],
    look: Style,
    label: str,
    hollow: bool = False,
    *,
    band: bool = False,
) -> None:
    """Draw means, with their standard deviations as bars or as a band."""
    x, mean, std = (list(column) for column in zip(*points, strict=True))
    axes.plot(
        x,
        mean,
        color=look.colour,
        marker=look.marker,
        linestyle=look.line,
        linewidth=1.3,
        markersize=4 if band else 6,
        markevery=max(1, len(points) // 6),
        markerfacecolor="white" if hollow else look.colour,
        label=label,
        zorder=3,
    )
    if band and any(std):
        low, high = ([m + sign * s for m, s in zip(mean, std, strict=True)] for sign in (-1, 1))
        axes.fill_between(x, low, high, color=look.colour, alpha=0.18, linewidth=0)
    elif any(std):
        axes.errorbar(x, mean, std, fmt="none", ecolor=look.colour, elinewidth=0.9, capsize=2)


def whole_axis(axes: Axes, x: Sequence[float]) -> None:
    """Leave a margin around `x`, whole numbers, and write no others along it."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    if x:
        axes.set_xlim(min(x) - 0.5, max(x) + 0.5)


def time_axis(axes: Axes, x: Sequence[float]) -> None:
    """Start the seconds `x` at 0, or show a wide range in multiples."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if not x or min(x) <= 0 or max(x) <= 5 * min(x):
        axes.set_xlim(0, 1.25 * max(x, default=1) or 1)
        return
    axes.set_xscale("log")
    axes.set_xlim(min(x) / 1.3, 1.3 * max(x))
    steps = (1.0, 2.0, 5.0) if max(x) < 200 * min(x) else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(subs=steps, numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def percent_axis(axes: Axes, points: Sequence[Point]) -> None:
    """Leave a margin around percentages, and none for what they cannot be."""
    low, high = min(p.mean - p.std for p in points), max(p.mean + p.std for p in points)
    axes.set_ylim(max(-3, low - 5), min(103, high + 5))


def name_points(figure: Figure, axes: Axes, points: Mapping[str, Point]) -> bool:
    """Write names beside points where they hide nothing; false if one has no room."""
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()  # settles where things are
    taken = []
    for x, mean, std in points.values():
        low, high = axes.transData.transform([(x, mean - std), (x, mean + std)])
        taken.append(Bbox([low - 8, high + 8]))  # half a marker more, in pixels
    for name, (x, mean, _) in points.items():
        text = axes.annotate(
            name, (x, mean), (0, 0), textcoords="offset points", va="center", fontsize=8
        )
        for right, up in _BESIDE:
            text.set(position=(7 * right, 7 * up), ha=_ALIGNED[right])
            box = text.get_window_extent()
            inside = axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max)
            if inside and not box.count_overlaps(taken):
                break
        else:
            return False
        taken.append(box)
    return True


def legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """Name every method once, in few rows below the panels instead of beside points.

    The picture grows by what the names need, so that the panels keep their height.
    """
    named: dict[str, Artist] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
        for text in [*axes.texts]:
            text.remove()
    for n_rows in range(1, len(named) + 1):
        columns = -(-len(named) // n_rows)
        names = figure.legend(
            named.values(),
            named.keys(),
            loc="outside lower center",
            ncols=columns,
            fontsize=8,
            frameon=False,
        )
        if columns == 1 or names.get_window_extent().width <= figure.bbox.width:
            break
        names.remove()
    figure.set_figheight(figure.get_figheight() + LEGEND_ROW * n_rows)


def write(figure: Figure, path: Path) -> None:
    """Write a PNG file, whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    write_whole(path, buffer.getvalue())
