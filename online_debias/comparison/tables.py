"""Tables of a comparison in three forms, with the best marked: Markdown, LaTeX and terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from online_debias.comparison.summary import METRICS, RANKED, SELECTED, Line, Section
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
    """Return heads and cells: the method, the number of seeds if rows differ, the metrics."""
    has = {name for line in section.lines for name in (line.quoted or line).values}
    shown = [metric for metric in metrics if metric in has]
    differ = len({line.n_seeds for line in section.lines if not line.quoted}) > 1
    cites, rows = _cites(section), []
    for line in section.lines:
        cells = [_Cell(_text(line, metric), line.marks.get(metric, "")) for metric in shown]
        if differ:
            cells.insert(0, _Cell(str(line.n_seeds) if line.n_seeds else "-"))
        cells.insert(0, _Cell(row_name(line.method, line.oracle)))
        if line.quoted:
            cells = [_Cell(text, "" if text == "-" else "quoted") for text, _ in cells]
            number = cites.index(line.quoted.cite) + 1
            cells[0] = cells[0]._replace(text=f"{line.method} [{number}]")
        rows.append(cells)
    return ["method", *["seeds"] * differ, *(METRICS[metric][0] for metric in shown)], rows


def _text(line: Line, metric: str) -> str:
    _, show = METRICS[metric]
    if line.quoted:
        given = line.quoted.values.get(metric, "-")
        if isinstance(given, str):
            return re.sub(r"\s*(\+/?-|±)\s*", " ± ", given.strip())
        return show(given / 100 if metric.startswith("accuracy") else given)
    if metric not in line.values:
        return "-"
    mean, std = line.values[metric]
    return show(mean) + (f" ± {show(std)}" if metric in RANKED and std is not None else "")


def _cites(section: Section) -> list[str]:
    return list(dict.fromkeys(line.quoted.cite for line in section.lines if line.quoted))


def _note(section: Section) -> str:
    """Return what a reader must know, in sentences."""
    ours = [line for line in section.lines if not line.quoted]
    said = []
    if counts := sorted({line.n_seeds for line in ours}):
        seeds = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
        seeds += " seed" if counts == [1] else " seeds"
        seeds += ", mean ± standard deviation" if counts[-1] > 1 else ""
        said.append(f"Test accuracies in percent, {SELECTED[section.selection]}; {seeds}.")
        if section.selection != "last":
            said.append("AUROC and AP are those of the last epoch.")
        said.append("Best in bold, second best underlined; what shows the same mean shares a mark.")
    if section.selection == "oracle-validation":
        said.append("Bias labels chose the epochs, so every row is an oracle one, and all rank.")
    elif any(line.oracle for line in ours):
        said.append("Oracle rows read bias labels and rank outside.")
    if any("time_ratio" in line.values for line in ours):
        said.append("× plain: training time in that of plain, same seed, median over seeds.")
    if len(ours) < len(section.lines):
        said.append("Rows in italics are quoted, not run, and rank outside.")
    return " ".join(said)


_MARKDOWN = {"": ("", ""), "best": ("**", "**"), "second": ("<u>", "</u>"), "quoted": ("*", "*")}


def markdown(sections: Sequence[Section]) -> str:
    """Return a Markdown table for each section, with a note and the papers quoted below."""
    return "\n".join(_markdown(section) for section in sections)


def _markdown(section: Section) -> str:
    heads, rows = _grid(section, METRICS)
    lines = [f"**{_plain_markdown(section.title)}**", "", f"| {' | '.join(heads)} |"]
    lines.append("|---" + "|---:" * (len(heads) - 1) + "|")
    for row in rows:
        cells = [_plain_markdown(text).join(_MARKDOWN[mark]) for text, mark in row]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", _note(section), ""]
    if cites := _cites(section):
        lines += [*(f"- [{n}] {' '.join(cite.split())}" for n, cite in enumerate(cites, 1)), ""]
    return "\n".join(lines)


def _plain_markdown(text: str) -> str:
    return re.sub(r"([\\`*_<>|])", r"\\\1", text)


_LATEX = {
    "": ("", ""),
    "best": (r"\textbf{", "}"),
    "second": (r"\underline{", "}"),
    "quoted": (r"\textit{", "}"),
}
_ESCAPES = {
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


def latex(sections: Sequence[Section]) -> str:
    r"""Return a table environment for each section; it needs booktabs and adjustbox."""
    return "\n".join(["% \\usepackage{adjustbox, booktabs}", *map(_latex, sections)])


def _latex(section: Section) -> str:
    heads, rows = _grid(section, METRICS)
    cites = [f"[{n}] {cite}." for n, cite in enumerate(_cites(section), 1)]
    caption = _plain_latex(" ".join([f"{section.title}.", _note(section), *cites]))
    label = re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-")
    body = [
        " & ".join(_plain_latex(text).join(_LATEX[mark]) for text, mark in row) + r" \\"
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
            *[r"\toprule", body[0], r"\midrule", *body[1:], r"\bottomrule"],
            *[r"\end{tabular}", r"\end{adjustbox}", r"\end{table}", ""],
        ]
    )


def _plain_latex(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in text)


def terminal(section: Section) -> Table:
    """Return the columns that matter most; with usual names it fits 80 characters.

    Deviations are shown of the first accuracy only.
    """
    has_groups = any("accuracy_unbiased" in (line.quoted or line).values for line in section.lines)
    heads, rows = _grid(section, ON_TERMINAL if has_groups else ("accuracy", *ON_TERMINAL))
    cites = [f"[{n}] {cite}" for n, cite in enumerate(_cites(section), 1)]
    table = Table(title=Text(section.title), title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.caption = Text(" ".join([_note(section), *cites]))
    table.caption_justify = "left"
    table.add_column(heads[0], min_width=14)
    for head in heads[1:]:
        table.add_column(head, justify="right", no_wrap=True)
    whole = heads.index("accuracy" if not has_groups else "unbiased")
    styles = {"": "", "best": "bold", "second": "underline", "quoted": "italic"}
    for row in rows:
        cells = [
            _Cell(text if i <= whole else text.partition(" ± ")[0], mark)
            for i, (text, mark) in enumerate(row)
        ]
        table.add_row(*(Text(text, styles[mark]) for text, mark in cells))
    return table
