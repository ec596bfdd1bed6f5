"""`online-debias demo`: plain, two-step and online training on handwritten digits, side by side."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from online_debias.cli import table
from online_debias.cli.train import train
from online_debias.runs import results

METHODS = ("plain", "two-step", "online")
WIDTHS = "[8,16,32]"  # half a SmallConvNet, so that it takes a minute or two on a laptop


def command(run: Path, seed: int, epochs: int, console: Console | None = None) -> None:
    """Train the three methods, write results.csv, print the table and say where to look.

    A folder that is there already is left alone; the next free name is taken.
    """
    console = console or Console()
    folder = _free(run)
    console.print(
        "10,000 handwritten digits; in 98 of 100 the background's colour gives the class away. "
        "The test digits have any colour.\n"
    )
    runs = []
    for method in METHODS:
        arguments = ["--method", method, "--epochs", str(epochs), "--seed", str(seed)]
        arguments += ["--data", "BiasedDigits", "--data.seed", str(seed), "--model.widths", WIDTHS]
        runs.append(train([*arguments, "--run", str(folder / method)]))
    results.write_csv(folder / "results.csv", runs)
    console.print()
    table.show(runs, console)
    plain, two_step, online = runs
    console.print(
        f"\nOnline training is {_points(online, plain)} plain training and "
        f"{_points(online, two_step)} two-step training, in "
        f"{online['seconds_training'] / plain['seconds_training']:.2f} times plain training's time "
        f"(two-step: {two_step['seconds_training'] / plain['seconds_training']:.2f})."
    )
    console.print(
        f"The figures are in {folder}/results.csv; to see curves and the suspect images:\n"
        f"  tensorboard --logdir {folder}",
        soft_wrap=True,
    )


def _points(one: dict[str, float], other: dict[str, float]) -> str:
    points = round(100 * (one["accuracy_unbiased"] - other["accuracy_unbiased"]))
    return f"{abs(points)} points {'above' if points >= 0 else 'below'}"


def _free(folder: Path) -> Path:
    candidate, number = folder, 2
    while candidate.exists():
        candidate, number = folder.with_name(f"{folder.name}-{number}"), number + 1
    return candidate
