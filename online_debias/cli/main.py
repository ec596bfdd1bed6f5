"""The command `online-debias`: one function a subcommand; torch is imported when one runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from online_debias.cli.exit_status import run_command

_TRAIN_HELP = "one run; `train --help` lists every setting"
_COMPARE_HELP = "methods x data x ratios x seeds: table and plots; goes on where it was stopped"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="online-debias",
        description="Debias an image classifier during one training run, without bias labels.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    demo = commands.add_parser("demo", help="plain, two-step and online training, side by side")
    demo.add_argument("--run", type=Path, default=Path("runs/demo"), help="folder to write")
    demo.add_argument("--seed", type=int, default=0, help="of training and of the data")
    demo.add_argument("--epochs", type=int, default=8, help="of each training")
    commands.add_parser("train", help=_TRAIN_HELP, add_help=False)
    commands.add_parser("compare", help=_COMPARE_HELP, add_help=False)
    evaluate = commands.add_parser("evaluate", help="group accuracies of a finished run's model")
    evaluate.add_argument("run", type=Path, help="the run folder")
    evaluate.add_argument(
        "settings", nargs=argparse.REMAINDER, help="--data ... to measure on other data"
    )
    score = commands.add_parser("score", help="which training samples look bias-conflicting")
    score.add_argument("run", type=Path, help="the run folder")
    score.add_argument("--output", type=Path, help="file to write; scores.csv in the run folder")
    report = commands.add_parser("report", help="one page of everything, to read in a browser")
    report.add_argument("run", type=Path, help="the run folder")
    report.add_argument("--against", type=Path, help="another run to compare with, such as a plain")
    report.add_argument("--output", type=Path, help="file to write; report.html in the run folder")
    data = commands.add_parser("data", help="the data sets: what is known, what is found")
    actions = data.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="list the data sets")
    check = actions.add_parser("check", help="look for a data set's files and count its images")
    check.add_argument("name", help="its class, such as BiasedMNIST")
    check.add_argument("--root", help="the folder that holds its files")
    check.add_argument(
        "settings", nargs=argparse.REMAINDER, help="its further settings, such as --size 64"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["train"]:
        from online_debias.cli import train

        return run_command(train.command, arguments[1:])
    if arguments[:1] == ["compare"]:
        from online_debias.cli import compare

        return run_command(compare.command, arguments[1:])
    given = _parser().parse_args(arguments)
    if given.command == "demo":
        from online_debias.cli import demo

        return run_command(demo.command, given.run, given.seed, given.epochs)
    if given.command == "evaluate":
        from online_debias.cli import evaluate

        return run_command(evaluate.command, given.run, given.settings)
    if given.command == "score":
        from online_debias.cli import score

        return run_command(score.command, given.run, given.output)
    if given.command == "report":
        from online_debias.cli import report

        return run_command(report.command, given.run, given.against, given.output)
    from online_debias.cli import data

    if given.action == "list":
        return run_command(data.show)
    return run_command(data.check, given.name, given.root, None, given.settings)
