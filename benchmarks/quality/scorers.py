"""Who finds the conflicting training images, on the same features: ours, river, sklearn, PyOD.

    python benchmarks/quality/scorers.py --quick                     # one data set, one epoch
    python benchmarks/quality/scorers.py --root DIR --dominoes DIR   # all; without DIRs the digits

Networks are trained `plain` and `online`, and the features of all training images are kept in
runs/scorers. Every scorer is the callback that a run would use, driven over those features, which
stand still: two passes in random orders, batches of 128. A streaming detector scores a batch before
it learns it, and the scores of the second pass count; an offline one is fitted to all rows of the
first pass and scores all of them. There is a detector for each class unless the name says
otherwise. Seconds are CPU seconds, one thread, for 10,000 images: a pass of scoring and learning,
or a fit with its scores. Writes benchmarks/results/scorers.csv; rows that it has are not made
again.
"""

from __future__ import annotations

import argparse
import csv
import io
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
import torch.nn.functional as F
from scorers_table import COLUMNS, KEY, TAPS, table
from torch import Tensor, nn

from online_debias import Engine
from online_debias.callbacks import ConflictScore, OfflineScore, RiverScore
from online_debias.data import BiasedDigits, BiasedMNIST, Dominoes, Images, Source
from online_debias.detectors import BestViews, Centroid, Detector, HalfSpaceTrees, Loda, Mahalanobis
from online_debias.engine import Callback, Monitor, Run
from online_debias.functional.metrics import detection
from online_debias.models import SmallConvNet
from online_debias.runtime import seeds
from online_debias.runtime.checkpoint import write_whole
from online_debias.settings.parser import parse
from online_debias.taps.taps import Tap, Taps
from online_debias.training.settings import TrainingSettings
from online_debias.training.trainer import Trainer

RESULTS = Path(__file__).resolve().parents[1] / "results/scorers.csv"
WIDTHS, EPOCHS, N_TRAIN, BATCH = (8, 16, 32), 4, 10_000, 128
TRAINED = {"plain": (1, EPOCHS), "online": (EPOCHS,)}  # and the epochs whose features are kept
Row = dict[str, Any]


class Scorer(NamedTuple):
    """A row of the table: what makes the callback for a tap, and which taps it can read."""

    name: str
    library: str
    make: Callable[[str], Callback]
    taps: tuple[str, ...] = TAPS
    blind: bool = False  # one detector for all classes
    slow: bool = False  # seed 0 only


def ours(name: str, detector: Callable[[], Detector], taps: tuple[str, ...] = TAPS) -> Scorer:
    """Return a streaming detector of this package."""
    return Scorer(name, "ours", lambda tap: ConflictScore(detector(), tap), taps)


def offline(path: str, blind: bool = False, **arguments: Any) -> Scorer:
    """Return a detector of scikit-learn or PyOD, by import path."""
    library = {"sklearn": "scikit-learn", "pyod": "PyOD"}[path.partition(".")[0]]
    return Scorer(
        _called(path, blind),
        library,
        lambda tap: OfflineScore(path, arguments or None, tap),
        blind=blind,
    )


def river(path: str, taps: tuple[str, ...] = TAPS, blind: bool = False, **arguments: Any) -> Scorer:
    """Return a detector of river's, by import path, whose scores are waited for."""
    return Scorer(
        _called(path, blind),
        "river",
        lambda tap: RiverScore(path, arguments or None, tap, lag=0),
        taps,
        blind,
        slow=True,
    )


def _called(path: str, blind: bool) -> str:
    return path.rpartition(".")[2] + ", one for all classes" * blind


TREES: dict[str, Any] = {"n_trees": 25, "height": 8}
SCORERS = (
    ours("BestViews", BestViews, ("local",)),
    ours("HalfSpaceTrees", HalfSpaceTrees),
    ours("Loda", Loda),
    ours("Centroid", Centroid),
    ours("Mahalanobis", Mahalanobis),
    river("river.anomaly.HalfSpaceTrees", **TREES),
    river("river.anomaly.LODA", taps=("shallow",)),
    river("river.anomaly.OneClassSVM"),
    river("river.anomaly.HalfSpaceTrees", taps=("bottleneck", "shallow"), blind=True, **TREES),
    offline("sklearn.ensemble.IsolationForest"),
    offline("sklearn.svm.OneClassSVM", nu=0.1),
    offline("sklearn.neighbors.LocalOutlierFactor", novelty=True),
    offline("sklearn.ensemble.IsolationForest", blind=True),
    offline("pyod.models.ecod.ECOD"),
    offline("pyod.models.copod.COPOD"),
    offline("pyod.models.hbos.HBOS"),
    offline("pyod.models.knn.KNN"),
)


class Export(Monitor):
    """Keeps the features of all training images after some epochs, read in evaluation mode.

    Args:
        model: the network in training.
        images: its training images, with bias annotations.
        paths: epoch, counted from 1 -> the file to write.
    """

    def __init__(self, model: nn.Module, images: Images, paths: dict[int, Path]) -> None:
        self.model, self.images, self.paths = model, images, paths
        self.taps = Taps(model, None, TAPS)

    def on_epoch_end(self, run: Run) -> None:
        """Write the file of this epoch, if there is to be one."""
        if run.epoch + 1 in self.paths:
            path = self.paths[run.epoch + 1]
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, safetensors.torch.save(self.read()))

    @torch.no_grad()
    def read(self) -> dict[str, Tensor]:
        """Return `[N, D]` float32 by tap, with loss, targets and who conflicts, `[N]`."""
        self.model.eval()  # the trainer calls train() at the start of an epoch
        parts: dict[str, list[Tensor]] = defaultdict(list)
        for pixels, targets in zip(
            self.images.images.split(1000), self.images.targets.split(1000), strict=True
        ):
            self.taps.start()
            logits = self.model(Images.to_float(pixels))
            parts["loss"].append(F.cross_entropy(logits, targets, reduction="none"))
            for name, value in self.taps.finish().items():
                parts[name].append(value)
        found = {name: torch.cat(values).contiguous() for name, values in parts.items()}
        assert self.images.conflicting is not None
        return found | {"targets": self.images.targets, "conflicting": self.images.conflicting}


def exported(source: Source, trained: str, seed: int, paths: dict[int, Path], epochs: int) -> None:
    """Train and keep features, unless all files are there."""
    if all(path.is_file() for path in paths.values()):
        return
    images = source.train()
    torch.manual_seed(seeds.derive(seed, "weights", ""))
    model = SmallConvNet(len(images.classes), WIDTHS)
    callbacks = parse(["--method", trained])[0].callbacks
    monitor = Export(model, images, paths)
    Trainer(
        model, images, callbacks, [monitor], settings=TrainingSettings(epochs=epochs, seed=seed)
    ).fit()


def scores(
    callback: Callback, tap: str, x: Tensor, targets: Tensor, seed: int
) -> tuple[Tensor, float]:
    """Return the scores `[N]` that a callback publishes in its second pass, and CPU seconds.

    Args:
        callback: provides the signal `conflict`.
        tap: name of the features that it reads.
        x: features `[N, D]`.
        targets: classes `[N]` int64.
        seed: of the callback and of the order of the rows.
    """
    width, n_classes = x.shape[1], int(targets.max()) + 1
    model = nn.Sequential(nn.Identity(), nn.Linear(width, n_classes))  # hands the features over
    taps = {tap: Tap("0", width=width)}
    engine = Engine(model, [callback], n_samples=len(x), n_classes=n_classes, taps=taps, seed=seed)
    found, seconds = torch.full((len(x),), torch.nan), []
    for epoch in range(2):
        start = time.process_time()
        order = torch.randperm(len(x), generator=seeds.generator("cpu", seed, "order", epoch))
        for index in order.split(BATCH):
            with torch.no_grad():
                batch = engine.start_step(index, x[index], targets[index])
                engine.loss(batch, model(batch.inputs))
            found[index] = batch.signals["conflict"]
            engine.end_step(batch)
        if epoch == 0:
            engine.end_epoch()
        seconds.append(time.process_time() - start)
    engine.end_fit()
    # The second pass of an offline detector only looks its scores up.
    return found, seconds[0] if isinstance(callback, OfflineScore) else statistics.fmean(seconds)


def rows_of(path: Path, key: Row, done: set[tuple[str, ...]]) -> Iterator[Row]:
    """Yield the rows of one file of features that are not done yet."""
    kept = safetensors.torch.load_file(path)
    targets, conflicting = kept["targets"], kept["conflicting"]
    loss = key | {"tap": "logits", "scorer": "loss", "library": "ours", "seconds": 0.0}
    if named(loss) not in done:
        yield loss | _quality(kept["loss"], conflicting)
    for scorer in SCORERS:
        for tap in () if scorer.slow and key["seed"] else scorer.taps:
            row = key | {"tap": tap, "scorer": scorer.name, "library": scorer.library}
            if named(row) in done:
                continue
            seen = torch.zeros_like(targets) if scorer.blind else targets
            score, seconds = scores(scorer.make(tap), tap, kept[tap], seen, int(key["seed"]))
            row["seconds"] = round(seconds * 10_000 / len(targets), 3)
            yield row | _quality(score, conflicting)


def named(row: Row) -> tuple[str, ...]:
    """Return what tells a row from all others."""
    return tuple(str(row[column]) for column in KEY)


def _quality(score: Tensor, conflicting: Tensor) -> Row:
    return {name: round(value, 5) for name, value in detection(score, conflicting).items()}


def sources(given: argparse.Namespace) -> Iterator[tuple[str, float, int, Source]]:
    """Yield name, share of bias-aligned images, seed, and the data."""
    variants = product(("bg", "fg", "patch"), (0.95, 0.99))
    for seed in range(1 if given.quick else given.seeds):
        for variant, rho in [("bg", 0.95)] if given.quick else variants:
            yield f"digits, {variant}", rho, seed, BiasedDigits(variant, rho, seed=seed)  # type: ignore[arg-type]
        if given.root:
            mnist = BiasedMNIST(given.root, 0.98, N_TRAIN, seed=seed)
            yield "Biased MNIST", 0.98, seed, mnist
        if given.dominoes:
            dominoes = Dominoes(given.dominoes, 0.95, n_train=N_TRAIN, seed=seed)
            yield "Dominoes", 0.95, seed, dominoes


def main() -> None:
    """Train what is missing, score, write the CSV after each data set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one data set, one epoch, kept apart")
    parser.add_argument("--root", type=Path, help="folder of MNIST, for Biased MNIST")
    parser.add_argument("--dominoes", type=Path, help="folder of MNIST and Fashion-MNIST")
    parser.add_argument("--seeds", type=int, default=2, help="how many")
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder, epochs = Path("runs/scorers"), EPOCHS
    results, trained = RESULTS, TRAINED
    if given.quick:
        folder, epochs = folder / "quick", 1
        results, trained = folder / "scorers.csv", {"plain": (1,), "online": (1,)}
    rows = read(results) if results.is_file() else []
    done = {named(row) for row in rows}
    for data, ratio, seed, source in sources(given):
        for method, after in trained.items():
            name = f"{data.replace(', ', '-').replace(' ', '-')}-{ratio}-{seed}-{method}"
            paths = {epoch: folder / f"{name}-{epoch}.safetensors" for epoch in after}
            exported(source, method, seed, paths, epochs)
            for epoch, path in paths.items():
                key = {"data": data, "ratio": ratio, "seed": seed}
                key |= {"trained": method, "epoch": epoch}
                rows += rows_of(path, key, done)
        write(results, rows)
        print(f"{data}, {ratio}, seed {seed}: {time.process_time():.0f} CPU seconds", flush=True)
    print(table(rows))


def read(path: Path) -> list[Row]:
    """Return the rows of a results file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[Row]) -> None:
    """Write the rows as CSV, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.getvalue().encode())


if __name__ == "__main__":
    main()
