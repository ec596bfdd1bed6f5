"""Train other libraries' methods on our data, and write their rows beside ours.

    python benchmarks/peers/run.py --data BiasedMNIST --set root=DIR --set n_train=10000

writes a run's rows to benchmarks/results/peers.csv as soon as it is finished, in the form of
`online-debias compare`'s results.csv. Runs that are there already are not run again. README.md
beside this file says how to make the environment, what is the same as in our runs, and what is not.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import time
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from peer_task import Task, accuracies
from torch import nn

from online_debias.comparison.summary import read
from online_debias.data import Images, Source
from online_debias.errors import ConfigError, positive
from online_debias.runs.results import COLUMNS, write_csv
from online_debias.settings.parser import source_class

RESULTS = Path(__file__).resolve().parents[1] / "results/peers.csv"
KEY = COLUMNS[:4]
QUICK_IMAGES = 1000
Method = Callable[[Task], nn.Module]
Run = dict[str, Any]


def main(
    arguments: Sequence[str] | None = None, methods: Mapping[str, Method] | None = None
) -> None:
    """Run what is not in the results file yet.

    Args:
        arguments: the command line.
        methods: name -> method; SpuCo's when None.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # as `compare` has it, whose seconds are beside these
    try:
        run_all(options, _spuco() if methods is None else methods)
    except (ValueError, OSError) as error:
        parser.error(str(error))


def run_all(options: argparse.Namespace, methods: Mapping[str, Method]) -> None:
    """Run methods on seeds, and write the rows of each run when it is finished.

    Raises:
        ConfigError: an option cannot be used, or the file has one of the runs with other settings.
    """
    positive(epochs=options.epochs, batch_size=options.batch_size, lr=options.lr)
    chosen = _chosen(options.methods, methods)
    kind = source_class(options.data)
    given = _given(kind, options.set)
    for seed, name in product(options.seeds, chosen):
        source = _source(kind, given, seed)
        label = options.label or kind.__name__
        ratio = getattr(source, "rho", None)
        run: Run = dict(zip(KEY, (name, label, ratio, seed), strict=True))
        settings = _settings(options, kind, given)
        if not options.quick and finished(options.out, run, settings):
            print(f"{name} on {label}, seed {seed}: in {options.out} already", flush=True)
            continue
        run |= train(methods[name], source, options, seed)
        run["settings"] = settings
        if not options.quick:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            write_csv(options.out, [*runs(options.out), run])
        print(
            f"{name} on {label}, seed {seed}: {100 * run['accuracy_unbiased']:.1f} % unbiased, "
            f"{100 * run['accuracy_worst_group']:.1f} % in the worst group, "
            f"{run['seconds_training']:.0f} s",
            flush=True,
        )


def train(method: Method, source: Source, options: argparse.Namespace, seed: int) -> Run:
    """Train one method and return its numbers, under the names that results.csv has.

    Raises:
        ValueError: the data has no bias labels to measure groups by.
    """
    images, test = source.train(), source.test()
    if test.bias is None:
        raise ValueError(f"The test set of {options.data} has no bias labels to measure groups by.")
    if options.quick:
        images = _first(images, QUICK_IMAGES)
    epochs = 1 if options.quick else options.epochs
    task = Task(images, tuple(options.widths), epochs, seed, options.batch_size, options.lr)
    start = time.perf_counter()
    network = method(task)
    seconds = time.perf_counter() - start
    task.check()
    return {
        "oracle": task.oracle,
        "epochs": epochs,
        "samples": task.samples,
        "seconds_training": round(seconds, 3),
        "training_passes": task.passes,
        **accuracies(network, test),
    }


def runs(path: Path) -> list[Run]:
    """Return the runs of a results file, [] if there is none.

    Raises:
        ConfigError: the file is damaged or of another form.
    """
    found: dict[tuple[str, ...], Run] = {}
    for row in read(path) if path.exists() else []:
        key = tuple(row[name] for name in KEY)
        run = found.setdefault(key, dict(zip(KEY, key, strict=True)))
        run[row["metric"]] = float(row["value"])
    return list(found.values())


def finished(path: Path, run: Run, settings: int) -> bool:
    """Say whether a results file has a run already.

    Raises:
        ConfigError: it has one of this name that was run with other settings.
    """
    key = ["" if run[name] is None else str(run[name]) for name in KEY]
    for other in runs(path):
        if [other[name] for name in KEY] == key:
            if other.get("settings") != settings:
                raise ConfigError(
                    f"{path} has {run['method']} on {run['data']}, seed {run['seed']}, with other "
                    "settings; give the data another --label, or choose another file with --out."
                )
            return True
    return False


def _settings(options: argparse.Namespace, kind: type[Source], given: Mapping[str, Any]) -> int:
    """Return a number that stands for everything that decides a run's numbers, as rows hold it."""
    of_data = {name: value for name, value in given.items() if name != "root"}
    of_training = [options.epochs, options.batch_size, options.lr, options.widths]
    text = json.dumps([kind.__name__, of_data, of_training], sort_keys=True)
    return zlib.crc32(text.encode())


def _source(kind: type[Source], given: Mapping[str, Any], seed: int) -> Source:
    """Return the data set, with the seed of the run if it takes one and is given none."""
    own = {"seed": seed} if "seed" in inspect.signature(kind).parameters else {}
    try:
        return kind(**{**own, **given})
    except TypeError as error:
        raise ConfigError(
            f"{kind.__name__} cannot be made ({error}); give its arguments with --set NAME=VALUE."
        ) from error


def _given(kind: type[Source], pairs: Sequence[str]) -> dict[str, Any]:
    """Return the arguments of a data set from `name=value`; a value is text or Python's literal."""
    takes = inspect.signature(kind).parameters
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or name not in takes:
            raise ConfigError(
                f"--set {pair}: expected name=value, with one of {', '.join(takes)} of "
                f"{kind.__name__}."
            )
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[name] = text
    return found


def _chosen(names: Sequence[str], methods: Mapping[str, Method]) -> list[str]:
    """Return full names of methods, given with or without their library's."""
    short = {name.partition(" ")[2].lower(): name for name in methods}
    if list(names) == ["all"]:
        return list(methods)
    for name in names:
        if name.lower() not in short:
            raise ConfigError(f"--methods {name}: expected all, or some of {', '.join(short)}.")
    return [short[name.lower()] for name in names]


def _first(images: Images, n: int) -> Images:
    bias = None if images.bias is None else images.bias[:n]
    return Images(images.images[:n], images.targets[:n], bias, images.classes)


def _spuco() -> Mapping[str, Method]:
    # SpuCo asks for four loader processes and pinned memory, whatever the machine.
    warnings.filterwarnings("ignore", module="torch.utils.data")
    try:
        from spuco_methods import METHODS  # heavy, and not in our own environment
    except ImportError as error:
        where = "benchmarks/peers/README.md says how to make an environment that has it"
        raise ConfigError(f"SpuCo cannot be imported ({error}); {where}.") from error
    return METHODS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--data", default="BiasedDigits", help="class of the data set")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="argument of the data set, such as root=DIR or rho=0.98; may be given several times",
    )
    parser.add_argument("--label", help="what the data column says; the class when left out")
    parser.add_argument("--methods", nargs="+", default=["all"], help="all, or erm, lff, ...")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=8e-3, help="highest rate of the one cycle")
    parser.add_argument("--widths", nargs=3, type=int, default=[16, 32, 64], metavar="N")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"one epoch on the first {QUICK_IMAGES} images, shown and not written",
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file to add to")
    return parser


if __name__ == "__main__":
    main()
