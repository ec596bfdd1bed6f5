"""What the online recipe adds to a training step: `python benchmarks/step_cost.py [--threads N]`.

Plain and online training take turns in one process, so that a busy machine slows both. One turn is
two epochs on the digits without monitors; the online one includes a resampled round. The medians
over the turns are written to benchmarks/results/step_cost.csv.
"""

from __future__ import annotations

import argparse
import csv
import platform
import statistics
from pathlib import Path

import torch

from online_debias import config
from online_debias.data import Images
from online_debias.models import SmallConvNet
from online_debias.trainer import Trainer

METHODS = ("plain", "online-minimal", "online")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--turns", type=int, default=7)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    train = config.parse(["--data", "BiasedDigits"])[0].data.train()
    turn("plain", train)  # warms up
    turns = [{name: turn(name, train) for name in METHODS} for _ in range(given.turns)]
    path = Path(__file__).resolve().parent / "results" / "step_cost.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["method", "milliseconds_per_step", "ratio_to_plain", "threads", "torch", "python"]
        )
        for name in METHODS:
            milliseconds = statistics.median(one[name] for one in turns)
            ratio = statistics.median(one[name] / one["plain"] for one in turns)
            row = [name, f"{milliseconds:.2f}", f"{ratio:.3f}", given.threads]
            print(*row)
            writer.writerow([*row, torch.__version__, platform.python_version()])


def turn(method: str, train: Images) -> float:
    """Return the milliseconds a step of two epochs."""
    callbacks = config.parse(["--method", method])[0].callbacks
    trainer = Trainer(SmallConvNet(len(train.classes)), train, callbacks, epochs=2)
    trainer.fit()
    return 1e3 * trainer.seconds_training / trainer.engine.run.step


if __name__ == "__main__":
    main()
