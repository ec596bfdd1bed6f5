"""How long a process takes to begin: `python benchmarks/speed/startup.py [--rounds N] [--quick]`.

Python processes that import torch alone, this package's public names, these and every callback, and
the command line's help take turns. CPU time, its medians over the rounds, goes to
benchmarks/results/startup.csv; what counts of an import is what it adds to that of torch.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
from collections import defaultdict

import torch
from results_file import write

TORCH = "import torch"
COMMANDS = {
    TORCH: ["-c", TORCH],
    "import the package": ["-c", "from online_debias import *"],
    "import the package and all callbacks": [
        "-c",
        "from online_debias import *; from online_debias.callbacks import *",
    ],
    "--help": ["-m", "online_debias", "--help"],
    "train --help": ["-m", "online_debias", "train", "--help"],
}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="one round; nothing is written")
    given = parser.parse_args()
    took: dict[str, list[float]] = defaultdict(list)
    for name in COMMANDS:
        seconds(name)  # from now on the files are in memory
    for _ in range(1 if given.quick else given.rounds):
        for name in COMMANDS:
            took[name].append(seconds(name))
    median = {name: statistics.median(values) for name, values in took.items()}
    rows = [[name, f"{s:.2f}", f"{s - median[TORCH]:+.2f}"] for name, s in median.items()]
    for row in rows:
        print(*row, sep="  ")
    if not given.quick:
        versions = [torch.__version__, platform.python_version()]
        heads = ["what", "seconds", "beyond_torch", "torch", "python"]
        write("startup", heads, ([*row, *versions] for row in rows))


def seconds(name: str) -> float:
    """Return the CPU time of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, *COMMANDS[name]]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=alone)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
