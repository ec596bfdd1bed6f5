"""What a step of SpuCo's plain training costs, beside a loop written by hand and our trainer.

python benchmarks/peers/peer_step_cost.py [--rounds N] [--quick], in the environment of README.md

The three take turns, one epoch each, in one process, so that a busy machine slows all. SpuCo
loads images with the four worker processes that its trainer starts; the others take one thread and
gather batches themselves. The medians over the rounds are written to
benchmarks/results/peer_step_cost.csv.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from peer_task import Task
from spuco_methods import ERM

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # where step_cost's modules are

import turns  # noqa: E402
from step_cost import SETTINGS, Loop, by_hand, trainer, what_of, write  # noqa: E402

RESULTS = Path(__file__).resolve().parent.parent / "results/peer_step_cost.csv"
Epoch = Callable[[], float]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="one round; nothing is written")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rounds = 1 if given.quick else given.rounds
    make, train, batch_size = what_of(SETTINGS[0])
    steps = len(train) // batch_size
    loops: dict[str, Epoch] = {
        "by hand": stepped(by_hand(make, train, batch_size, 1 + rounds), steps),
        "plain": stepped(trainer(make, train, batch_size, 1 + rounds, [], []), steps),
        "SpuCo ERM": spuco(Task(train, batch_size=batch_size, epochs=1)),
    }
    for epoch in loops.values():
        epoch()
    took = turns.take(loops, rounds)
    rows = turns.per_step(took, steps, beside=("by hand",))
    if not given.quick:
        heads = ["setting", "loop", "milliseconds_per_step", "ratio_to_by_hand"]
        write(RESULTS, heads, [[SETTINGS[0], *row] for row in rows])


def stepped(loop: Loop, steps: int) -> Epoch:
    """Return what goes on for an epoch with a loop, in seconds."""
    sides = {"": turns.steps_of(loop)}
    return lambda: turns.interleave(sides, steps, 1, time.perf_counter)[0][""]


def spuco(task: Task) -> Epoch:
    """Return what trains one more epoch with SpuCo's trainer, in seconds."""
    network, tensors = task.network(), task.tensors()

    def epoch() -> float:
        training = ERM(network, tensors, task.batch_size, task.optimizer(network), num_epochs=1)
        start = time.perf_counter()
        training.train()
        return time.perf_counter() - start

    return epoch


if __name__ == "__main__":
    turns.one_heap()
    main()
