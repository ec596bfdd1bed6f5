"""Tables of a comparison in three forms, with the best marked: Markdown, LaTeX and terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from online_debias.comparison.summary import METRICS, RANKED, SELECTED, Line, Quoted, Section
from online_debias.runs.results import row_name

ON_TERMINAL = (
    "accuracy_unbiased",
    "accuracy_worst_group",
    "accuracy_conflicting",
    "detect_auroc",
    "training_passes",
    "time_ratio",
)


class _Cell(NamedTuple):
    text: str
    mark: str = ""  # "best", "second" or "quoted"


def _grid(section: Section, metrics: Iterable[str]) -> tuple[list[str], list[list[_Cell]]]:
    """Return heads and cells: the method, the number of seeds if lines differ, the metrics."""
    both: list[Line | Quoted] = [*section.lines, *section.quoted]
    shown = [name for name in metrics if any(name in row.values for row in both)]
    differ = len({line.n_seeds for line in section.lines}) > 1
    rows = []
    for line in section.lines:
        cells = [_Cell(row_name(line.method, line.oracle)), *[_Cell(str(line.n_seeds))] * differ]
        cells += [_Cell(_ours(line, name), line.marks.get(name, "")) for name in shown]
        rows.append(cells)
    numbers = _sources(section)
    for paper in section.quoted:
        texts = [f"{paper.method} [{numbers[paper.cite]}]", *["-"] * differ]
        texts += [_theirs(paper, name) for name in shown]
        rows.append([_Cell(text, "" if text == "-" else "quoted") for text in texts])
    return ["method", *["seeds"] * differ, *(METRICS[name][0] for name in shown)], rows


def _ours(line: Line, metric: str) -> str:
    if metric not in line.values:
        return "-"
    show = METRICS[metric][1]
    mean, std = line.values[metric]
    return show(mean) + (f" ± {show(std)}" if metric in RANKED and std is not None else "")


def _theirs(paper: Quoted, metric: str) -> str:
    value = paper.values.get(metric, "-")
    if isinstance(value, str):
        return re.sub(r"\s*(\+/?-|±)\s*", " ± ", value.strip())
    return METRICS[metric][1](value / 100 if metric.startswith("accuracy") else value)


def _sources(section: Section) -> dict[str, int]:
    """Return the papers quoted, each with its number."""
    return {cite: n for n, cite in enumerate(dict.fromkeys(p.cite for p in section.quoted), 1)}


def _note(section: Section) -> str:
    """Return what a reader must know, in sentences."""
    sentences = []
    if counts := sorted({line.n_seeds for line in section.lines}):
        seeds = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
        seeds += " seed" if counts == [1] else " seeds"
        seeds += ", mean ± standard deviation" if counts[-1] > 1 else ""
        sentences += [f"Test accuracies in percent, {SELECTED[section.selection]}; {seeds}."]
        if section.selection != "last":
            sentences += ["AUROC and AP are those of the last epoch."]
        sentences += [
            "Best in bold, second best underlined; what shows the same mean shares a mark."
        ]
    if section.selection == "oracle-validation":
        sentences += ["Bias labels chose the epochs, so every row is an oracle one, and all rank."]
    elif any(line.oracle for line in section.lines):
        sentences += ["Oracle rows read bias labels and rank outside."]
    if any("time_ratio" in line.values for line in section.lines):
        sentences += ["× plain: training time in that of plain, same seed, median over seeds."]
    if section.quoted:
        sentences += ["Rows in italics are quoted, not run, and rank outside."]
    return " ".join(sentences)


_MARKDOWN = {"": "{}", "best": "**{}**", "second": "<u>{}</u>", "quoted": "*{}*"}
_IN_MARKDOWN = str.maketrans({character: "\\" + character for character in "\\`*_<>|"})


def markdown(sections: Sequence[Section]) -> str:
    """Return a Markdown table for each section, with a note and the papers quoted below."""
    return "\n".join(_markdown(section) for section in sections)


def _markdown(section: Section) -> str:
    heads, rows = _grid(section, METRICS)
    lines = [f"**{section.title.translate(_IN_MARKDOWN)}**", "", f"| {' | '.join(heads)} |"]
    lines += ["|---" + "|---:" * (len(heads) - 1) + "|"]
    for row in rows:
        cells = [_MARKDOWN[mark].format(text.translate(_IN_MARKDOWN)) for text, mark in row]
        lines += [f"| {' | '.join(cells)} |"]
    lines += ["", _note(section), ""]
    if sources := _sources(section):
        lines += [*(f"- [{n}] {' '.join(cite.split())}" for cite, n in sources.items()), ""]
    return "\n".join(lines)


_LATEX = {"": "{}", "best": r"\textbf{{{}}}", "second": r"\underline{{{}}}"}
_LATEX |= {"quoted": r"\textit{{{}}}"}
_IN_LATEX = str.maketrans(
    {
        **{character: "\\" + character for character in "&%$#_{}"},
        **{character: f"{{{character}}}" for character in "[]*"},  # after \\ they mean something
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        "×": r"$\times$",
    }
)


def latex(sections: Sequence[Section]) -> str:
    r"""Return a table environment for each section; it needs booktabs and adjustbox."""
    return "\n".join(["% \\usepackage{adjustbox, booktabs}", *map(_latex, sections)])


def _latex(section: Section) -> str:
    heads, rows = _grid(section, METRICS)
    sources = [f"[{n}] {cite}." for cite, n in _sources(section).items()]
    caption = " ".join([f"{section.title}.", _note(section), *sources]).translate(_IN_LATEX)
    label = re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-")
    head, *body = [
        " & ".join(_LATEX[mark].format(text.translate(_IN_LATEX)) for text, mark in row) + r" \\"
        for row in [[_Cell(head) for head in heads], *rows]
    ]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\label{{tab:{label}}}",
            r"\begin{adjustbox}{max width=\linewidth}",
            rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
            *[r"\toprule", head, r"\midrule", *body, r"\bottomrule"],
            *[r"\end{tabular}", r"\end{adjustbox}", r"\end{table}", ""],
        ]
    )


_TERMINAL = {"": "", "best": "bold", "second": "underline", "quoted": "italic"}


def terminal(section: Section) -> Table:
    """Return the columns that matter most; with usual names it fits 80 characters.

    Deviations are shown of the first metric only.
    """
    heads, rows = _grid(section, ON_TERMINAL)
    if "unbiased" not in heads:
        heads, rows = _grid(section, ("accuracy", *ON_TERMINAL))
    first = 1 + ("seeds" in heads)  # the column of the first metric
    sources = [f"[{n}] {cite}" for cite, n in _sources(section).items()]
    table = Table(title=Text(section.title), title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.caption = Text(" ".join([_note(section), *sources]))
    table.caption_justify = "left"
    table.add_column(heads[0], min_width=14)
    for head in heads[1:]:
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        texts = [
            text if i <= first else text.partition(" ± ")[0] for i, (text, _) in enumerate(row)
        ]
        styles = [_TERMINAL[mark] for _, mark in row]
        table.add_row(*map(Text, texts, styles))
    return table
