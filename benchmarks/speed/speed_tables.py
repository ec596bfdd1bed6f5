"""Tables of what was measured of speed and memory."""

from __future__ import annotations

from collections import defaultdict


def measured(rows: list[dict[str, str]]) -> str:
    """Return a table of speed as it was measured."""
    left_out = ("torch", "river", "python")
    columns = [name for name in rows[0] if name not in left_out]
    lines = [f"| {' | '.join(columns).replace('_', ' ')} |", "|---" * len(columns) + "|"]
    lines += [f"| {' | '.join(row[name] for name in columns)} |" for row in rows]
    return "\n".join(lines)


def beside_river(rows: list[dict[str, str]]) -> str:
    """Return a line for each size of a forest: river's speed, and how many times it ours has."""
    sizes = ["trees", "height", "window", "width", "batch"]
    lines: dict[tuple[str, ...], dict[str, dict[str, str]]] = defaultdict(dict)
    for row in rows:
        lines[tuple(row[name] for name in sizes)][row["detector"]] = row
    heads = ["score", *sizes, "river, samples a second", "ours / river", "compiled / river"]
    table = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for size, found in lines.items():
        score = "mass" if "mass" in found else "posterior"
        ratios = (found[name]["ratio_to_river"] for name in (score, f"{score}, compiled"))
        cells = [score, *size, found["river"]["samples_per_second"], *ratios]
        table.append(f"| {' | '.join(cells)} |")
    return "\n".join(table)


def implementations(rows: list[dict[str, str]]) -> str:
    """Return a line for each implementation, where others than river were measured."""
    sizes = ["trees", "height", "window", "width", "batch"]
    named = ("river", "mass", "mass, compiled", "posterior", "posterior, compiled")
    other = next(row for row in rows if row["detector"] not in named)
    rows = [row for row in rows if all(row[name] == other[name] for name in sizes)]
    return measured([{k: v for k, v in row.items() if k not in sizes} for row in rows])


def growth(*named: str, rows: list[dict[str, str]]) -> str:
    """Return a line for each size of what has one of these words in its name."""
    rows = [row for row in rows if any(word in row["what"] for word in named)]
    sizes = [name for name in ("what", "samples", "classes", "features") if rows[0][name]]
    lines: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for row in rows:
        lines[tuple(row[name] for name in sizes)][row["measure"]] = row["value"]
    measures = list(dict.fromkeys(row["measure"] for row in rows))
    heads = [*sizes, *measures]
    table = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for size, found in lines.items():
        table.append(f"| {' | '.join([*size, *(found[name] for name in measures)])} |")
    return "\n".join(table)
