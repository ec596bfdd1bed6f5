"""Several sides take turns in one process, so that a busy machine slows all of them."""

from __future__ import annotations

import os
import statistics
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Turn = Mapping[str, float]
Pause = Callable[[], None]
# glibc's: one heap for all threads, of which nothing is given back to the system.
ONE_HEAP = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": "4000000000",
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
}


def one_heap() -> None:
    """Start this process anew with one heap, unless it has been; call it before anything else.

    Sides have threads of their own, and glibc gives each a heap that shrinks and grows with every
    step. Up to a thousand page faults a step then fall on one side or the other, whichever the
    order of their allocations hits: with three sides that was a tenth of a small network's step.
    """
    if not ONE_HEAP.items() <= os.environ.items():
        sys.stdout.flush()
        os.execve(sys.executable, sys.orig_argv, os.environ | ONE_HEAP)


def take(sides: Mapping[str, Callable[[], float]], rounds: int) -> list[Turn]:
    """Return what each side took in each round; a side measures itself."""
    return [{name: side() for name, side in sides.items()} for _ in range(rounds)]


class Paused:
    """Batches before each of which `pause` is called."""

    def __init__(self, batches: Any, pause: Pause) -> None:
        self.batches, self.pause = batches, pause

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.batches)
        for _ in range(len(self)):  # not all loops ask for a batch after the last one
            self.pause()
            yield next(batches)


def steps_of(loop: Callable[[Pause], object]) -> Iterator[None]:
    """Go on with a loop, which has a thread of its own, from one of its pauses to the next.

    A training loop that calls others, as `Trainer.fit`, cannot be written as a generator; so it
    becomes one. Its set-up comes before its first step; no two threads run at a time.
    """
    go, rests = threading.Semaphore(0), threading.Semaphore(0)
    ended: list[BaseException | None] = []

    def pause() -> None:
        rests.release()
        go.acquire()

    def run() -> None:
        try:
            loop(pause)
            ended.append(None)
        except BaseException as error:
            ended.append(error)
        rests.release()

    def wait() -> None:
        rests.acquire()
        if ended and ended[0] is not None:
            raise ended[0]

    threading.Thread(target=run, daemon=True).start()  # daemon: it may wait for its turn for ever
    wait()
    while not ended:
        go.release()
        wait()
        yield


def compare(
    loops: Mapping[str, Callable[[Pause], object]],
    steps: int,
    first: int,
    rounds: int,
    clock: Callable[[], float],
) -> list[Turn]:
    """Return what `interleave` does of these loops, after `first` rounds that do not count."""
    sides = {name: steps_of(loop) for name, loop in loops.items()}
    interleave(sides, steps, first, clock)
    return interleave(sides, steps, rounds, clock)


def interleave(
    sides: Mapping[str, Iterator[None]], steps: int, rounds: int, clock: Callable[[], float]
) -> list[Turn]:
    """Return what each side took in each round of so many steps, one step of each by turns.

    A machine's speed changes within seconds; so neighbours are compared that are steps, not rounds.
    `time.process_time` leaves out what other processes took; it counts the time of all threads.
    """
    took: list[Turn] = []
    for _ in range(rounds):
        spent = dict.fromkeys(sides, 0.0)
        for _ in range(steps):
            for name, side in sides.items():
                start = clock()
                next(side)
                spent[name] += clock() - start
        took.append(spent)
    return took


def per_step(took: list[Turn], steps: int, beside: Sequence[str]) -> list[list[str]]:
    """Return a row for each side, and print it: milliseconds a step, and ratios to others.

    Args:
        took: seconds.
        steps: in each of them.
        beside: sides to compare with.
    """
    rows = []
    for name in took[0]:
        each = f"{1e3 * median(took, name) / steps:.2f}"
        rows.append([name, each, *(f"{ratio(took, name, other):.3f}" for other in beside)])
        print(*rows[-1], flush=True)
    return rows


def median(took: list[Turn], name: str) -> float:
    """Return what a side took in the middle of the rounds."""
    return statistics.median(turn[name] for turn in took)


def ratio(took: list[Turn], name: str, other: str) -> float:
    """Return what a side took in that of another of the same round, the median of these."""
    return statistics.median(turn[name] / turn[other] for turn in took)
