"""Every kind of bias, the online recipe beside the baselines: the numbers of docs/quality.md.

    python benchmarks/quality/quality.py --root DIR [--only digits fashion] [--quick]

Each file of benchmarks/quality/sets/ is a comparison, run as `online-debias compare --config FILE
--root DIR` would; finished runs are kept in runs/quality and not made again. DIR holds MNIST,
Fashion-MNIST and CIFAR-10 (see `online-debias data check`); the digits need nothing. All results
go to benchmarks/results/quality.csv. With --quick each run has one seed, one epoch and at most
2,000 training images, to see in minutes that everything works; no results file is written.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from online_debias.cli import compare
from online_debias.runs.results import COLUMNS
from online_debias.runtime.checkpoint import write_whole

HERE = Path(__file__).resolve().parent
SETS, RESULTS = HERE / "sets", HERE.parent / "results/quality.csv"


def main() -> None:
    """Run what is missing and write the file."""
    names = sorted(path.stem for path in SETS.glob("*.yaml"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, help="folder with the data sets' files")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="one seed, one epoch, few images")
    given = parser.parse_args()
    for name in given.only:
        path = SETS / f"{name}.yaml"
        if given.quick:
            path = quick(path)
        root = [] if given.root is None else ["--root", str(given.root)]
        compare.command(["--config", str(path), *root])
    if not given.quick:
        lines = [",".join(COLUMNS), *(line for name in names for line in finished(name))]
        write_whole(RESULTS, ("\n".join(lines) + "\n").encode())


def quick(path: Path) -> Path:
    """Write a comparison's small form, and return where it is."""
    comparison: dict[str, Any] = yaml.safe_load(path.read_text())
    folder = Path(f"{comparison['run']}-quick")
    comparison |= {"run": str(folder), "seeds": comparison["seeds"][:1]}
    for settings in (comparison["settings"], *comparison["methods"]):
        if "epochs" in settings:  # a method that is a name has none
            settings["epochs"] = 1
    for source in comparison["data"]:
        if "n_train" in source.get("init_args", {}):
            source["init_args"]["n_train"] = 2000
    small = Path("runs") / f"{path.stem}-quick.yaml"
    small.parent.mkdir(exist_ok=True)
    write_whole(small, yaml.safe_dump(comparison, sort_keys=False).encode())
    return small


def finished(name: str) -> list[str]:
    """Return the lines of a comparison's results.csv, without its head."""
    run = yaml.safe_load((SETS / f"{name}.yaml").read_text())["run"]
    path = Path(run) / "results.csv"
    return path.read_text().splitlines()[1:] if path.is_file() else []


if __name__ == "__main__":
    main()
