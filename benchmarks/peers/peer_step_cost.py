"""What a step of SpuCo's plain training costs, beside a loop written by hand and our trainer.

python benchmarks/peers/peer_step_cost.py [--rounds N] [--quick], in the environment of README.md

The three take turns, one epoch each, in one process, so that a busy machine slows all. SpuCo
loads images with the four worker processes that its trainer starts; the others take one thread and
gather batches themselves. The medians over the rounds are written to
benchmarks/results/peer_step_cost.csv.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import interleaved_timing
import peer_steps  # before step_cost and interleaved_timing: it says where they are
from peer_task import Task
from spuco_methods import ERM
from step_cost import Loop, Model, by_hand, trainer

from online_debias.data import Images

Epoch = Callable[[], float]
BESIDE = ("by hand",)


def main() -> None:
    """Measure, print and write."""
    about = __doc__.splitlines()[0] if __doc__ else ""
    peer_steps.command(about, "peer_step_cost", BESIDE, measure)


def measure(make: Model, train: Images, batch_size: int, rounds: int) -> list[list[Any]]:
    """Return rows (loop, milliseconds, ratios)."""
    steps = len(train) // batch_size
    loops: dict[str, Epoch] = {
        "by hand": stepped(by_hand(make, train, batch_size, 1 + rounds), steps),
        "plain": stepped(trainer(make, train, batch_size, 1 + rounds, [], []), steps),
        "SpuCo ERM": spuco(Task(train, batch_size=batch_size, epochs=1)),
    }
    for epoch in loops.values():
        epoch()
    return interleaved_timing.per_step(interleaved_timing.take(loops, rounds), steps, beside=BESIDE)


def stepped(loop: Loop, steps: int) -> Epoch:
    """Return what goes on for an epoch with a loop, in seconds."""
    sides = {"": interleaved_timing.steps_of(loop)}
    return lambda: interleaved_timing.interleave(sides, steps, 1, time.perf_counter)[0][""]


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
    interleaved_timing.one_heap()
    main()
