"""Tables of verdicts, and of the epochs that rules of selection choose."""

from __future__ import annotations

import statistics
from collections import defaultdict


def verdict(rows: list[dict[str, str]]) -> str:
    """Return how often the verdict is right, with the range of the evidence."""
    trials: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        trials[row["variant"], row["rho"]].append(row)
    heads = ["data", "bias-aligned", "should act", "right", "evidence", "of a part", "AUROC"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for (variant, rho), found in trials.items():
        agree = sum(row["shortcut"] == row["expected"] for row in found)
        auroc = [float(row["auroc"]) for row in found if row["auroc"] != "nan"]
        acts = found[0]["expected"] == "1"
        cells = [variant, f"{100 * float(rho):g} %" if rho else "no bias", "yes" if acts else "no"]
        cells += [f"{agree} of {len(found)}", _range(found, "evidence"), _range(found, "part")]
        cells += [f"{statistics.fmean(auroc):.3f}" if acts else ""]
        lines.append(f"| {' | '.join(cells)} |")
    right = sum(row["shortcut"] == row["expected"] for row in rows)
    return "\n".join(lines) + f"\n\n{right} of {len(rows)} verdicts are right."


def _range(rows: list[dict[str, str]], name: str) -> str:
    values = [float(row[name]) for row in rows if row[name]]
    return f"{min(values):.2f} to {max(values):.2f}" if values else ""


def selection(rows: list[dict[str, str]]) -> str:
    """Return the unbiased accuracy of the epoch that each rule chooses."""
    shown = [row for row in rows if row["metric"] == "accuracy_unbiased"]
    rules = sorted(dict.fromkeys(row["rule"] for row in shown), key="highest of any epoch".__eq__)
    cells = {
        (row["data"], row["method"], row["rule"]): f"{float(row['mean']):.3f} ± "
        f"{float(row['sd']):.3f}"
        for row in shown
    }
    lines = [f"| data | method | {' | '.join(rules)} |", "|---" * (len(rules) + 2) + "|"]
    for data in dict.fromkeys(row["data"] for row in shown):
        for method in dict.fromkeys(row["method"] for row in shown):
            line = [cells.get((data, method, rule), "") for rule in rules]
            lines.append(f"| {data} | {method} | {' | '.join(line)} |")
    return "\n".join(lines)
