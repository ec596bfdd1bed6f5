"""Speed of half-space trees, scoring and learning, beside other implementations.

python benchmarks/speed/detectors.py [--quick]

Ours and river's have the same trees. pysad (Python) and dSalmon (C++) are measured if they are
installed: `pip install pysad`; dSalmon, which is built from source, needs numpy's headers,
`CPATH=$(python -c "import numpy; print(numpy.get_include())") pip install --no-build-isolation
dSalmon`. scikit-learn's isolation forest, which does not stream, is fitted anew on every window.

One thread, CPU time. All sides take turns in one process, so that a busy machine slows all; the
medians over the rounds are written to benchmarks/results/detectors.csv.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Any

import interleaved_timing
import torch
from results_file import write
from river.anomaly import HalfSpaceTrees as River
from river_trees import river_trees
from sklearn.ensemble import IsolationForest
from torch import Tensor

from online_debias.detectors import HalfSpaceTrees, MassTrees
from online_debias.detectors.external.river import as_dicts, score_then_learn

CLASSES, ROWS, FEW = 10, 8192, 512  # rows a turn; of what is slow, the first few


@dataclass(frozen=True)
class Setting:
    """Size of a forest and of what it reads."""

    score: str = "mass"
    trees: int = 25
    height: int = 8
    window: int = 250
    width: int = 128
    batch: int = 128


MASS = Setting()
POSTERIOR = Setting("posterior", trees=100, height=6, window=512)
SETTINGS = [
    *(replace(MASS, width=width) for width in (32, 128, 512, 2048)),
    *(replace(MASS, window=4000, batch=batch) for batch in (128, 1024)),
    *(replace(MASS, height=height) for height in (6, 10, 12)),
    *(replace(MASS, batch=batch) for batch in (64, 256, 1024)),
    *(replace(POSTERIOR, width=width) for width in (32, 128, 512, 2048)),
    *(replace(POSTERIOR, batch=batch) for batch in (64, 256, 1024)),
]
Side = tuple[Callable[[], object], int]  # a piece of work, and how many rows it takes


def cpu_time(work: Callable[[], object]) -> float:
    """Return the CPU time of a piece of work, in seconds."""
    start = time.process_time()
    work()
    return time.process_time() - start


def cpu_time_each(work: Callable[[], object], rows: int) -> float:
    """Return the CPU time of a piece of work for each of its rows, in seconds."""
    return cpu_time(work) / rows


def ours(setting: Setting, model: Any, x: Tensor, compiled: bool) -> Side:
    """Our trees, which are those of river's model."""
    size = setting.trees, setting.height, setting.window
    detector: HalfSpaceTrees | MassTrees = HalfSpaceTrees(*size, compiled=compiled)
    if setting.score == "mass":
        detector = MassTrees(*size, 0.0, classes=False, normalizer="none", compiled=compiled)
    detector.setup(setting.width, CLASSES, "cpu", seed=0)
    detector.forest.plant(*river_trees(model))
    y = torch.randint(CLASSES, (len(x),), generator=torch.Generator().manual_seed(1))
    batches = list(zip(x.split(setting.batch), y.split(setting.batch), strict=True))
    mass = torch.ones(setting.batch)

    def work() -> None:
        for rows, targets in batches:
            detector.step(rows, targets, mass)

    return work, len(x)


def others(setting: Setting, x: Tensor) -> dict[str, Side]:
    """What is installed of other libraries."""
    sides: dict[str, Side] = {}
    few = x[:FEW].numpy()
    if pysad := _installed("pysad.models"):
        ends = few.min(0), few.max(0)
        theirs = pysad.HalfSpaceTrees(*ends, setting.window, setting.trees, setting.height)
        sides["pysad"] = lambda: [theirs.fit_score_partial(row) for row in few], len(few)
    if dsalmon := _installed("dSalmon.outlier"):
        streaming = dsalmon.HSTrees(setting.window, setting.trees, setting.height, n_jobs=1)
        doubles = x.double().numpy()
        sides["dSalmon"] = lambda: streaming.fit_predict(doubles), len(x)

    def refits() -> None:
        for rows in x.split(setting.window):
            forest = IsolationForest(n_estimators=setting.trees, random_state=0).fit(rows.numpy())
            forest.score_samples(rows.numpy())

    sides["isolation forest, fitted anew"] = refits, len(x)
    return sides


def _installed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def measure(setting: Setting, rounds: int) -> list[dict[str, Any]]:
    """Return a row for each implementation."""
    x = torch.rand(ROWS, setting.width, generator=torch.Generator().manual_seed(0))
    model: Any = River(setting.trees, setting.height, setting.window, seed=0)
    few = as_dicts(x[:FEW])
    score_then_learn(model, few)
    sides: dict[str, Side] = {
        "river": (lambda: score_then_learn(model, few), FEW),
        setting.score: ours(setting, model, x, compiled=False),
        f"{setting.score}, compiled": ours(setting, model, x, compiled=True),
    }
    if setting == MASS:
        sides |= others(setting, x)
    for work, _ in sides.values():
        work()  # warm-up
    each = {name: partial(cpu_time_each, *side) for name, side in sides.items()}
    took = interleaved_timing.take(each, rounds)
    about = {name: value for name, value in asdict(setting).items() if name != "score"}
    versions = {"torch": torch.__version__, "river": version("river")}
    rows = []
    for name in sides:
        seconds = interleaved_timing.median(took, name)
        figures = {
            "samples_per_second": round(1 / seconds),
            "ratio_to_river": round(interleaved_timing.ratio(took, "river", name), 1),
            "microseconds_per_batch": round(1e6 * seconds * setting.batch),
        }
        row = {"detector": name, **about, **figures, **versions}
        rows.append(row | {"python": platform.python_version()})
        print(" ".join(str(value) for value in row.values()), flush=True)
    return rows


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--quick", action="store_true", help="2 settings, 3 rounds; nothing is written"
    )
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    settings, rounds = ([MASS, POSTERIOR], 3) if quick else (SETTINGS, 11)
    rows = [row for setting in settings for row in measure(setting, rounds)]
    if not quick:
        write("detectors", list(rows[0]), (row.values() for row in rows))


if __name__ == "__main__":
    main()
