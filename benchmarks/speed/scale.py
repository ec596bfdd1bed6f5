"""How costs grow with the training set, the classes and the features.

    python benchmarks/speed/scale.py [--most SAMPLES] [--quick]

For training sets of ten thousand samples up to SAMPLES: what it takes to remember a batch in a
step, and to propose and draw a round. For more classes and wider features: a step of the forests,
scoring and learning, and what they hold. One thread, CPU time; each number is the median of several
turns, a single one above a million samples. Written to benchmarks/results/scale.csv.
"""

from __future__ import annotations

import argparse
import platform
import statistics
from collections.abc import Callable
from typing import Any

import torch
from detectors import cpu_time
from results_file import write

from online_debias.detectors import BestViews, HalfSpaceTrees, PartViews
from online_debias.detectors.detector import Detector
from online_debias.engine import SampleMemory
from online_debias.engine.sampling import systematic
from online_debias.engine.weights import rates
from online_debias.functional.weights.draw_share import draw_share
from online_debias.runtime import seeds

BATCH, TURNS = 128, 5
CHANNELS, GRID = 16, 7  # of the shallow map of the small network
DEEP = 64  # channels of its last map


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=10**8, help="largest training set")
    parser.add_argument("--quick", action="store_true", help="small, nothing is written")
    given = parser.parse_args()
    torch.set_num_threads(1)
    most = min(given.most, 10**5) if given.quick else given.most
    rows = [row for power in range(4, 9) if 10**power <= most for row in samples(10**power)]
    for n_classes in (10, 100) if given.quick else (10, 100, 1000, 10_000):
        rows += forest("HalfSpaceTrees, 100 trees", HalfSpaceTrees(), n_classes, 64)
        rows += forest("BestViews", BestViews(), n_classes, CHANNELS * GRID**2)
        rows += forest("PartViews", PartViews(), n_classes, DEEP * PartViews().side ** 2)
    for width in (32, 128) if given.quick else (32, 128, 512, 2048):
        rows += forest("HalfSpaceTrees, 100 trees", HalfSpaceTrees(), 10, width)
    if not given.quick:
        heads = ["what", "samples", "classes", "features", "measure", "value", "torch", "python"]
        versions = [torch.__version__, platform.python_version()]
        write("scale", heads, ([*row, *versions] for row in rows))


def samples(n: int) -> list[list[Any]]:
    """Return what a training set of `n` costs: in a step, and a sample at a round's border."""
    stream = torch.Generator().manual_seed(0)
    memory = SampleMemory(n, momentum=0.7)
    targets = torch.randint(10, (n,), generator=stream)
    score = (torch.rand(n, generator=stream) < 0.01).float()

    def remember() -> None:
        index = torch.randint(n, (BATCH,), generator=stream)
        known = torch.ones(BATCH, dtype=torch.bool)
        memory.update(index, score[index], known)

    def propose() -> None:
        found["factor"] = draw_share(score, targets, 10, 0.7, 10.0)

    def draw() -> None:
        rate = rates({"resample": found["factor"]})
        found["order"] = systematic(rate, seeds.generator("cpu", 0, "round", 1))

    found: dict[str, torch.Tensor] = {}
    turns = TURNS if n <= 10**6 else 1
    per_sample = 1e9 / n
    figures = {
        "memory update, microseconds a step": 1e6 * median(remember, 50),
        "propose rates, nanoseconds a sample": per_sample * median(propose, turns),
        "draw a round, nanoseconds a sample": per_sample * median(draw, turns),
    }
    return shown(["training set", n, 10, ""], figures)


def forest(name: str, detector: Detector, n_classes: int, width: int) -> list[list[Any]]:
    """Return what a step of a detector costs when its forest answers, and the memory it holds."""
    stream = torch.Generator().manual_seed(0)
    detector.setup(width, n_classes, "cpu", seed=0)
    mass = torch.ones(BATCH)

    def step() -> None:
        y = torch.randint(n_classes, (BATCH,), generator=stream)
        x = torch.rand(BATCH, width, generator=stream) + 4 * y[:, None] / n_classes
        took.append(cpu_time(lambda: detector.step(x, y, mass)))

    took: list[float] = []
    for _ in range(10):  # BestViews is scanning
        step()
    first = held(detector)
    for _ in range(30):
        step()
    took.clear()
    for _ in range(20):
        step()
    figures = {
        "milliseconds a step": 1e3 * statistics.median(took),
        "held at first, MB": first / 1e6,
        "held, MB": held(detector) / 1e6,
    }
    return shown([name, "", n_classes, width], figures)


def held(detector: Detector) -> int:
    """Return the bytes of all tensors of a detector, its look-up tables among them."""
    found, seen = 0, set()
    queue: list[Any] = [detector]
    while queue:
        one = queue.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, torch.Tensor):
            storage = one.untyped_storage()
            if storage.data_ptr() not in seen:  # views hold nothing of their own
                seen.add(storage.data_ptr())
                found += storage.nbytes()
        elif isinstance(one, dict):
            queue += one.values()
        elif isinstance(one, list | tuple):
            queue += one
        elif hasattr(one, "__dict__") and type(one).__module__.startswith("online_debias"):
            queue += vars(one).values()
    return found


def median(work: Callable[[], None], turns: int) -> float:
    """Return the median CPU time of a piece of work, in seconds."""
    return statistics.median(cpu_time(work) for _ in range(turns))


def shown(about: list[Any], figures: dict[str, float]) -> list[list[Any]]:
    """Print figures, and return a row for each."""
    print(*about, {name: round(value, 3) for name, value in figures.items()}, flush=True)
    return [[*about, name, f"{value:.3g}"] for name, value in figures.items()]


if __name__ == "__main__":
    main()
