"""One page of a finished run: a file that opens offline, in light and dark, without a script."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from online_debias.report import attention, curves, groups, suspects
from online_debias.report.finished import Finished
from online_debias.report.naming import suspected
from online_debias.report.pictures import sheet
from online_debias.report.samples import collect
from online_debias.runs import shortcut_sentence
from online_debias.runs.results import row_name

SHEETS = {
    "samples.png": "Images drawn from the diffusion model, a row a class",
    "neighbours.png": "Drawn images, each above the training image that it is nearest to",
}


def render(run: Finished, against: Finished | None = None) -> str:
    """Return the page as HTML.

    Args:
        run: what it is about.
        against: another run, to compare with.

    Raises:
        ConfigError: a file of a run is missing or damaged.
    """
    from jinja2 import Environment, StrictUndefined  # comes with torch; only pages need it

    runs = [run] if against is None else [run, against]
    found, details, afterwards = collect(run)
    read = [_curves(one) for one in runs]
    classes = suspects.of_classes(run.train, found, details)
    noisy = suspected(details.noise, run.results)
    content: dict[str, Any] = {
        "run": run,
        "names": _names(runs),
        "verdict": shortcut_sentence.sentence(run.results),
        "shortcut": run.results.get("shortcut"),
        "accuracies": groups.accuracies(read),
        "panels": curves.panels(read),
        "true_groups": groups.true_groups(read[0], run.train.classes),
        "scored": not bool(found.score.isnan().all()),
        "pseudo_groups": groups.pseudo_groups(found, details, run.train.classes),
        "afterwards": afterwards,
        "classes": classes[: suspects.FIRST],
        "folded": classes[suspects.FIRST :],
        "noise_count": len(noisy),
        "noisy": suspects.noisy(noisy, run.train, found, details),
        "views": None if against is None else attention.compare(runs, found),
        "sheets": _sheets(run.folder),
        "costs": groups.costs([one.results for one in runs]),
        "settings": [(one.folder, one.text) for one in runs],
        "versions": _versions(runs),
    }
    environment = Environment(
        autoescape=True,  # names of classes and files are not ours
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = _percent
    environment.filters["number"] = _number
    template = files("online_debias.report").joinpath("page.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(content)


def _curves(run: Finished) -> curves.Curves:
    """Return a run's curves; of scores that a verdict against a shortcut made void, none."""
    read = curves.read(run.folder / "metrics.csv")
    if run.results.get("shortcut") is not False:
        return read
    return {key: curve for key, curve in read.items() if not key[1].startswith("detect/")}


def _names(runs: list[Finished]) -> list[str]:
    """Call runs by their methods, or by their folders where those are the same."""
    names = [row_name(str(run.results["method"]), bool(run.results["oracle"])) for run in runs]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]


def _sheets(folder: Path) -> list[tuple[str, str, str]]:
    """Return title, path and data of the sheets of images that a method left in its folder."""
    return [
        (title, str(path.relative_to(folder)), sheet(path))
        for name, title in SHEETS.items()
        for path in sorted(folder.rglob(name))
    ]


def _versions(runs: list[Finished]) -> list[tuple[str, list[str]]]:
    told = [
        {
            **run.results.get("versions", {}),
            "commit": (run.results.get("commit") or "-")[:12],
            "device": run.results.get("device", "-"),
        }
        for run in runs
    ]
    return [(name, [str(one.get(name, "-")) for one in told]) for name in told[0]]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _number(value: float | None) -> str:
    """Give whole numbers whole, others with a decimal."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
