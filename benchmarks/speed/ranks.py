"""What ranks add to a step: `python benchmarks/speed/ranks.py [--ranks 1 2 4] [--quick]`.

The same global batch, by plain training and by `online`, on 1, 2, ... ranks of one thread each,
which talk over gloo on this machine; more ranks than cores have to share them. Seconds
are those of training in results.json. Written to benchmarks/results/ranks.csv.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from results_file import write

BATCH, METHODS = 128, ("plain", "online")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--quick", action="store_true", help="one epoch; nothing is written")
    given = parser.parse_args()
    rows = [
        row(method, ranks, epochs=1 if given.quick else 8)
        for ranks in given.ranks
        for method in METHODS
    ]
    if not given.quick:
        heads = ["method", "ranks", "rows_a_rank", "milliseconds_a_step", "torch"]
        write("ranks", heads, ([*one, torch.__version__] for one in rows))


def row(method: str, ranks: int, epochs: int) -> list[str | int]:
    """Return what one run took."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
        package = ["-m", "--", "online_debias"] if ranks > 1 else ["-m", "online_debias"]
        settings = ["--method", method, "--batch_size", str(BATCH // ranks), "--run", str(run)]
        settings += ["--epochs", str(epochs), "--evaluate_every", str(epochs)]
        command = [sys.executable, *(launcher if ranks > 1 else []), *package, "train", *settings]
        alone = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, capture_output=True, env=alone)
        results = json.loads((run / "results.json").read_text())
    step = 1e3 * results["seconds_training"] / (results["samples"] / BATCH)
    found: list[str | int] = [method, ranks, BATCH // ranks, f"{step:.1f}"]
    print(*found, flush=True)
    return found


if __name__ == "__main__":
    main()
