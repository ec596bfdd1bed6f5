"""How pictures look: panels, the style of each method, means with their deviations, names."""

from __future__ import annotations

import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

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


def point(x: float, values: Sequence[float], scale: float = 1) -> Point:
    """Return the point of the seeds' values, times `scale`, at `x`.

    Example:
        >>> point(3, [0.25, 0.75], 100)
        Point(x=3, mean=50.0, std=35.35533905932738)
    """
    std = statistics.stdev(values) if len(values) > 1 else 0.0
    return Point(x, scale * statistics.fmean(values), scale * std)


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


def name_points(
    figure: Figure, panels: Sequence[Axes], points: Sequence[Mapping[str, Point]]
) -> bool:
    """Write names beside points where they hide nothing; false, and none, if one has no room."""
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()  # settles where things are
    sides = {-1: "right", 0: "center", 1: "left"}
    offsets = [(1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1), (0, 2), (0, -2)]
    offsets += [(1, 2), (1, -2), (-1, 2), (-1, -2)]
    written: list[Annotation] = []
    for axes, placed in zip(panels, points, strict=True):
        taken = []
        for x, mean, std in placed.values():
            low, high = axes.transData.transform([(x, mean - std), (x, mean + std)])
            taken.append(Bbox([low - 8, high + 8]))  # half a marker more, in pixels
        for name, (x, mean, _) in placed.items():
            for right, up in offsets:
                text = axes.annotate(
                    name,
                    (x, mean),
                    (7 * right, 7 * up),
                    textcoords="offset points",
                    ha=sides[right],
                    va="center",
                    fontsize=8,
                )
                box = text.get_window_extent()
                inside = axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max)
                if inside and not box.count_overlaps(taken):
                    break
                text.remove()
            else:
                for text in written:
                    text.remove()
                return False
            taken.append(box)
            written.append(text)
    return True


def legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """Name every method once, below the panels, in as many columns as there is room for.

    The picture grows by what the names need, so that the panels keep their height.
    """
    named: dict[str, Artist] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    fit = int(6.5 / (0.45 + 0.06 * max(map(len, named), default=0)))
    columns = max(1, min(len(named), fit))
    figure.set_figheight(figure.get_figheight() + LEGEND_ROW * -(-len(named) // columns))
    figure.legend(
        named.values(),
        named.keys(),
        loc="outside lower center",
        ncols=columns,
        fontsize=8,
        frameon=False,
    )


def write(figure: Figure, path: Path) -> None:
    """Write a PNG file, whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    write_whole(path, buffer.getvalue())
