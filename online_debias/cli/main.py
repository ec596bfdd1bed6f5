"""The command `online-debias`: one module a subcommand; torch is imported when one runs."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from online_debias.cli.exit_status import run_command

# Their own parsers read what follows: those know every setting, and need torch.
_WITH_ALL_SETTINGS = {
    "train": "one run; `train --help` lists every setting",
    "compare": "methods x data x ratios x seeds: table and plots; goes on where it was stopped",
}


def _parser() -> argparse.ArgumentParser:
    """Return a parser of the module, the function in it and the function's arguments."""
    parser = argparse.ArgumentParser(
        prog="online-debias",
        description="Debias an image classifier during one training run, without bias labels.",
    )
    parser.set_defaults(function="command")
    commands = parser.add_subparsers(dest="module", metavar="COMMAND", required=True)
    demo = commands.add_parser("demo", help="plain, two-step and online training, side by side")
    demo.add_argument("--run", type=Path, default=Path("runs/demo"), help="folder to write")
    demo.add_argument("--seed", type=int, default=0, help="of training and of the data")
    demo.add_argument("--epochs", type=int, default=8, help="of each training")
    for name, text in _WITH_ALL_SETTINGS.items():
        commands.add_parser(name, help=text, add_help=False)
    evaluate = commands.add_parser("evaluate", help="group accuracies of a finished run's model")
    evaluate.add_argument("run", type=Path, help="the run folder")
    _further(evaluate, "--data ... to measure on other data")
    score = commands.add_parser("score", help="which training samples look bias-conflicting")
    score.add_argument("folder", metavar="run", type=Path, help="the run folder")
    score.add_argument("--output", type=Path, help="file to write; scores.csv in the run folder")
    report = commands.add_parser("report", help="one page of everything, to read in a browser")
    report.add_argument("folder", metavar="run", type=Path, help="the run folder")
    report.add_argument("--against", type=Path, help="another run to compare with, such as a plain")
    report.add_argument("--output", type=Path, help="file to write; report.html in the run folder")
    data = commands.add_parser("data", help="the data sets: what is known, what is found")
    actions = data.add_subparsers(metavar="ACTION", required=True)
    actions.add_parser("list", help="list the data sets").set_defaults(function="show")
    check = actions.add_parser("check", help="look for a data set's files and count its images")
    check.set_defaults(function="check")
    check.add_argument("name", help="its class, such as BiasedMNIST")
    check.add_argument("--root", help="the folder that holds its files")
    _further(check, "its further settings, such as --size 64")
    return parser


def _further(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("arguments", metavar="settings", nargs=argparse.REMAINDER, help=text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    line = list(sys.argv[1:] if arguments is None else arguments)
    if line and line[0] in _WITH_ALL_SETTINGS:
        given: dict[str, Any] = {"module": line[0], "function": "command", "arguments": line[1:]}
    else:
        given = vars(_parser().parse_args(line))
    module = importlib.import_module(f"online_debias.cli.{given.pop('module')}")
    return run_command(partial(getattr(module, given.pop("function")), **given))
