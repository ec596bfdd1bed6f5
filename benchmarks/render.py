"""Write the tables of README.md and docs/ from the results files: `python benchmarks/render.py`.

A table stands between `<!-- NAME -->` and `<!-- end -->` and is made from the file NAME.csv in
benchmarks/results; `NAME:more` is another table of the same file. `budgets` is made from several.
"""

from __future__ import annotations

import csv
import re
import statistics
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import yaml
from quality import scorers_table
from robustness import robustness_tables
from speed import limits, speed_tables

from online_debias.comparison import summary, tables

HERE = Path(__file__).resolve().parent
ROOT, RESULTS = HERE.parent, HERE / "results"


def main() -> None:
    """Write every table whose results file is there."""
    kept = limits.table(RESULTS)
    for document, shown in {
        "README.md": {
            "demo_compare": comparison,
            "step_cost": speed_tables.measured,
        },
        "docs/performance.md": {
            "step_parts": speed_tables.measured,
            "peer_step_cost": speed_tables.measured,
            "composer_step_cost": speed_tables.measured,
            "detectors": speed_tables.beside_river,
            "detectors:others": speed_tables.implementations,
            "loading": speed_tables.measured,
            "startup": speed_tables.measured,
            "ranks": speed_tables.measured,
            "memory": speed_tables.measured,
            "scale": partial(speed_tables.growth, "training set"),
            "scale:classes": partial(speed_tables.growth, "trees", "Views"),
        },
        "docs/methods.md": {"methods": methods},
        "docs/baselines.md": {
            "biased_mnist_98": comparison,
            "biased_mnist_98:amplifier": amplifier,
        },
        "docs/quality.md": {"quality": quality, "peers": peers},
        "docs/ablation.md": {
            "ablation": ablation,
            "sharpness": ablation,
            "quality:dominoes": dominoes,
            "ablation_parts": comparison,
            "ablation_texture": comparison,
        },
        "docs/scorers.md": {"scorers": scorers_table.table},
        "docs/robustness.md": {
            "robustness": robustness,
            "verdict": robustness_tables.verdict,
            "own_data": speed_tables.measured,
            "bar": comparison,
            "selection": robustness_tables.selection,
        },
    }.items():
        if not (ROOT / document).is_file():
            continue
        text = (ROOT / document).read_text()
        for name, render in shown.items():
            path = RESULTS / f"{name.partition(':')[0]}.csv"
            if path.is_file():
                with path.open(newline="") as file:
                    text = _replace(text, name, render(rows=list(csv.DictReader(file))))
        text = _replace(text, "budgets", kept)
        (ROOT / document).write_text(text)


def methods(rows: list[dict[str, str]]) -> str:
    """Return a table of every method: what it is and needs, what it costs, how it does."""
    values: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in rows:
        values[row["method"], row["data"], row["metric"]].append(float(row["value"]))
    described = yaml.safe_load((HERE / "quality/methods.yaml").read_text())
    variants = ("bg", "fg", "patch")
    heads = ["method", "after", "bias labels", "beside the run", "held, MB", "time / plain"]
    heads += [*variants, "seeds", "AUROC bg / fg / patch"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in dict.fromkeys(row["method"] for row in rows):
        one = {key[1:]: found for key, found in values.items() if key[0] == name}
        needs = described[name]
        cells = [name, needs["paper"], "oracle" if one["bg", "oracle"][0] else "no"]
        cells += [needs["extra"]]
        cells += [f"{one['cost', metric][0]:.2f}" for metric in ("held_mb", "time_ratio")]
        cells += [_cell(one[variant, "accuracy_unbiased"]) for variant in variants]
        cells += [str(min(len(one[variant, "accuracy_unbiased"]) for variant in variants))]
        found = [one.get((variant, "detect_auroc")) for variant in variants]
        cells += [" / ".join(f"{statistics.fmean(x):.3f}" for x in found if x)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n\nUnbiased accuracy, last epoch, mean ± standard deviation."


def comparison(rows: list[dict[str, str]]) -> str:
    """Return the table that `online-debias compare` writes."""
    return tables.markdown(summary.summarize(rows, "last")).strip()


def quality(rows: list[dict[str, str]]) -> str:
    """Return one line for each data set: unbiased accuracy of every method, how online finds."""
    sections = summary.summarize(rows, "last")
    every = [line for section in sections for line in section.lines]
    methods = list(dict.fromkeys(line.method for line in sorted(every, key=_online_last)))
    heads = ["data", "seeds", *methods, "AUROC", "AP", "online / plain, seconds"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for section in sections:
        found = {line.method: line for line in section.lines}
        online = found["online"]
        seeds = {line.n_seeds for line in section.lines}
        cells = [section.title, " to ".join(str(n) for n in sorted({min(seeds), max(seeds)}))]
        for method in methods:
            value = found[method].values["accuracy_unbiased"] if method in found else None
            cells.append("" if value is None else _percent(value.mean, value.std))
        for metric, digits in (
            ("detect_auroc", 3),
            ("detect_average_precision", 3),
            ("time_ratio", 2),
        ):
            value = None if _unbiased(section) and digits == 3 else online.values.get(metric)
            cells.append("" if value is None else f"{value.mean:.{digits}f}")
        lines.append(f"| {' | '.join(cells)} |")
    named = ", ".join(sorted({line.method for line in every if line.oracle}))
    note = "Unbiased accuracy in percent, last epoch, mean ± standard deviation over seeds."
    return "\n".join(lines) + f"\n\n{note} Oracles, which read bias labels: {named or 'none'}."


def _online_last(line: summary.Line) -> tuple[bool, bool]:
    return line.method.startswith("online"), line.oracle


def _unbiased(section: summary.Section) -> bool:
    return section.data.endswith("no bias")


def _percent(mean: float, std: float | None) -> str:
    return f"{100 * mean:.1f}" + ("" if std is None else f" ± {100 * std:.1f}")


def dominoes(rows: list[dict[str, str]]) -> str:
    """Return the tables of the dominoes alone."""
    return comparison([row for row in rows if row["data"].startswith("dominoes")])


def ablation(rows: list[dict[str, str]]) -> str:
    """Return a line for each variation of the recipe, and what it changes."""
    sections = summary.summarize(rows, "last")
    whole = [_of(section, "online") for section in sections]
    heads = ["method", *(section.title for section in sections), "difference to online"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for method in dict.fromkeys(line.method for line in sections[0].lines):
        values = [_of(section, method) for section in sections]
        less = [
            100 * (value.mean - online.mean) for value, online in zip(values, whole, strict=True)
        ]
        cells = [method, *(_percent(*value) for value in values)]
        cells += ["" if method == "online" else " / ".join(f"{value:+.1f}" for value in less)]
        lines.append(f"| {' | '.join(cells)} |")
    seeds = sections[0].lines[0].n_seeds
    return "\n".join(lines) + f"\n\nUnbiased accuracy in percent, last epoch; seeds: {seeds}."


def _of(section: summary.Section, method: str) -> summary.Value:
    line = next(line for line in section.lines if line.method == method)
    return line.values["accuracy_unbiased"]


def peers(rows: list[dict[str, str]]) -> str:
    """Return what other libraries' methods reach."""
    return comparison(rows)


def amplifier(rows: list[dict[str, str]]) -> str:
    """Return what the bias amplifiers of DDB got right, and whether its images are copies."""
    shown = {
        "amplifier_aligned": "amplifier right, aligned",
        "amplifier_conflicting": "amplifier right, conflicting",
        "detect_average_precision": "AP of its scores",
        "memorised_share": "memorised share",
        "neighbour_distance": "distance of synthetic images",
        "neighbour_distance_held_out": "of held-out images",
    }
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        values[row["method"], row["metric"]].append(float(row["value"]))
    lines = [f"| method | {' | '.join(shown.values())} |", "|---" * (len(shown) + 1) + "|"]
    for method in dict.fromkeys(row["method"] for row in rows):
        if (method, "amplifier_conflicting") in values:
            cells = [_cell(values[method, name]) for name in shown]
            lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def robustness(rows: list[dict[str, str]]) -> str:
    """Return what each kind of data does to each method: accuracy, and what it says of the data."""
    shown = {
        "accuracy_unbiased": "unbiased accuracy",
        "detect_auroc": "AUROC",
        "detect_average_precision": "AP",
        "shortcut": "says: a shortcut",
        "suspected_noise": "suspected wrong labels",
    }
    values: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in rows:
        values[row["data"], row["method"], row["metric"]].append(float(row["value"]))
    lines = [f"| data | method | {' | '.join(shown.values())} |", "|---" * (len(shown) + 2) + "|"]
    for data, method in dict.fromkeys((row["data"], row["method"]) for row in rows):
        found = {name: values[data, method, name] for name in shown}
        cells = [_cell(found[name]) for name in list(shown)[:3]]
        said = found["shortcut"]
        cells += [f"{sum(said):.0f} of {len(said)} runs" if said else ""]
        noise = found["suspected_noise"]
        cells += [f"{statistics.fmean(noise):.0f}" if noise else ""]
        lines.append(f"| {data} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n\nMean ± standard deviation over seeds, last epoch."


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    mean = statistics.fmean(values)
    if mean == 1.0 == max(values):
        return "1"
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{mean:.3f} ± {spread:.3f}"


def _replace(text: str, name: str, table: str) -> str:
    put: Callable[[re.Match[str]], str] = lambda found: f"{found[1]}\n{table}\n{found[2]}"  # noqa: E731
    return re.sub(rf"(<!-- {name} -->).*?(<!-- end -->)", put, text, flags=re.DOTALL)


if __name__ == "__main__":
    main()
