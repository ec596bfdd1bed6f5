"""What a training step costs: `python benchmarks/speed/step_cost.py [--threads N] [--quick]`.

A loop written by hand, Lightning without callbacks, this package's trainer without callbacks and
with what `online-debias train` writes, and the online recipes take turns, one step each, in one
process, so that a busy machine slows all of them; with one thread, CPU time is measured. A round is
an epoch of each, what comes between epochs included. What a recipe does only once (to look for a
view of the bias) is over by then; its epochs are resampled ones. Without a bias nothing is
resampled, and parts of the images are still being looked at. resample-oracle, which only draws
by true labels, shows what of it is due to other images in the batches. The medians over the rounds
are written to benchmarks/results/step_cost.csv, what the parts of the recipe take to
step_parts.csv.
"""

from __future__ import annotations

import argparse
import csv
import logging
import platform
import statistics
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import interleaved_timing
import results_file
import torch
from torch import nn

from online_debias.callbacks.monitors import Detection, MetricsCSV, TensorBoard
from online_debias.data import Images
from online_debias.engine import Callback, Monitor, Run
from online_debias.functional.losses.cross_entropy import cross_entropy
from online_debias.memory.recorder import Scalar
from online_debias.models import SmallConvNet, Torchvision
from online_debias.runtime.torchvision_compat import import_torchvision
from online_debias.settings.parser import parse
from online_debias.training.optimizer import make_optimizer, make_schedule
from online_debias.training.settings import TrainingSettings
from online_debias.training.trainer import Trainer

SETTINGS = ("SmallConvNet, 28 pixels, batch 128", "ResNet-18, 64 pixels, batch 32")
FIRST = 3  # epochs before the clock starts: views are scanned for, samples begin to be drawn
Model = Callable[[], nn.Module]
Loop = Callable[[interleaved_timing.Pause], object]


class Parts(Monitor):
    """Adds up the host's time in each callback."""

    def __init__(self) -> None:
        self.seen: dict[str, list[float]] = defaultdict(list)

    def on_scalars(self, scalars: list[Scalar], run: Run) -> None:
        """Keep the times of resampled epochs."""
        for scalar in scalars:
            group, _, name = scalar.name.partition("/")
            if group == "time" and scalar.epoch >= FIRST:
                self.seen[name].append(scalar.value)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--only", choices=SETTINGS, help="measure this one; rows of the others stay as they are"
    )
    parser.add_argument(
        "--quick", action="store_true", help="the small network; nothing is written"
    )
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    versions = [given.threads, torch.__version__, platform.python_version()]
    costs, parts = [], []
    settings = [given.only] if given.only else SETTINGS[: 1 if given.quick else None]
    for setting in settings:
        make, train, batch_size = what_of(setting)
        fair = what_of(setting, rho=0.1)[1]
        cost, part = measure(make, train, fair, batch_size, given.rounds)
        costs += [[setting, *row, *versions] for row in cost]
        parts += [[setting, *row, *versions] for row in part]
    about = ["threads", "torch", "python"]
    cost_heads = ["setting", "loop", "milliseconds_per_step", "ratio_to_by_hand", "ratio_to_plain"]
    if not given.quick:
        write("step_cost", [*cost_heads, *about], costs)
        part_heads = ["setting", "part", "milliseconds_per_step"]
        write("step_parts", [*part_heads, *about], parts)


def what_of(setting: str, rho: float = 0.98) -> tuple[Model, Images, int]:
    """Return the network of a setting, its training images and how many a batch has."""
    digits = parse(["--data", "BiasedDigits", "--data.rho", str(rho)])[0].data.train()
    if setting == SETTINGS[0]:
        return partial(SmallConvNet, 10), digits, 128
    return partial(Torchvision, 10, name="resnet18"), enlarged(digits, 704), 32


def enlarged(images: Images, n: int) -> Images:
    """Return the first `n` images at 64 pixels."""
    larger = nn.functional.interpolate(images.images[:n].float(), 64).byte()
    assert images.bias is not None
    return Images(larger, images.targets[:n], images.bias[:n], images.classes)


def measure(
    make: Model, train: Images, fair: Images, batch_size: int, rounds: int
) -> tuple[list[list[Any]], list[list[Any]]]:
    """Return rows of loops (name, ms a step, ratios) and of the recipe's parts (name, ms)."""
    parts = Parts()
    with tempfile.TemporaryDirectory() as folder:
        detection = Detection()
        settings: dict[str, Any] = {"method": "plain"}
        watching = [detection, MetricsCSV(Path(folder) / "metrics.csv"),
                    TensorBoard(Path(folder), detection, train, settings)]  # fmt: skip
        fit = partial(trainer, make, train, batch_size, FIRST + rounds)
        loops: dict[str, Loop] = {
            "by hand": by_hand(make, train, batch_size, FIRST + rounds),
            "Lightning, no callbacks": lightning(make, train, batch_size, FIRST + rounds),
            "plain": fit([], []),
            "plain, with TensorBoard and CSV": fit([], watching),
            "resample-oracle": fit(recipe("resample-oracle"), []),
            "online-minimal": fit(recipe("online-minimal"), []),
            "online": fit(recipe("online"), [parts]),
            "online, where there is no bias": trainer(
                make, fair, batch_size, FIRST + rounds, recipe("online"), []
            ),
        }
        steps = len(train) // batch_size
        clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
        took = interleaved_timing.compare(loops, steps, FIRST, rounds, clock)
    rows = interleaved_timing.per_step(took, steps, beside=("by hand", "plain"))
    spent = {name.removesuffix("_ms"): statistics.fmean(x) for name, x in parts.seen.items()}
    whole = spent.pop("step")
    named = sorted(spent.items(), key=lambda part: -part[1])
    named.append(("network, optimizer and engine", whole - sum(spent.values())))
    return rows, [[name, f"{value:.2f}"] for name, value in named]


def recipe(name: str) -> list[Callback]:
    """Return a recipe's callbacks."""
    callbacks: list[Callback] = parse(["--method", name])[0].callbacks
    return callbacks


def trainer(
    make: Model,
    train: Images,
    batch_size: int,
    epochs: int,
    callbacks: list[Callback],
    monitors: list[Monitor],
) -> Loop:
    """Return a loop of our trainer."""

    def fit(pause: interleaved_timing.Pause) -> None:
        torch.manual_seed(0)
        fitting = Trainer(
            make(),
            train,
            callbacks,
            monitors,
            settings=TrainingSettings(epochs=epochs, batch_size=batch_size),
        )
        fitting.loader = interleaved_timing.Paused(fitting.loader, pause)  # type: ignore[assignment]
        fitting.fit()

    return fit


class Batches:
    """Goes through the images in random order, as one would by hand."""

    def __init__(self, train: Images, batch_size: int) -> None:
        self.train, self.batch_size = train, batch_size

    def __len__(self) -> int:
        return len(self.train) // self.batch_size

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for index in torch.randperm(len(self.train)).split(self.batch_size)[: len(self)]:
            inputs = Images.to_float(self.train.images[index])
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            yield inputs, self.train.targets[index]


def by_hand(make: Model, train: Images, batch_size: int, epochs: int) -> Loop:
    """Return a loop without this package."""

    def fit(pause: interleaved_timing.Pause) -> None:
        torch.manual_seed(0)
        model = make().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        batches = interleaved_timing.Paused(Batches(train, batch_size), pause)
        optimizer = make_optimizer(model, [], 8e-3, 0.0)
        schedule = make_schedule("one-cycle", optimizer, epochs * len(batches))
        for _ in range(epochs):
            for inputs, targets in batches:
                loss = cross_entropy(model(inputs), targets).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()

    return fit


def lightning(make: Model, train: Images, batch_size: int, epochs: int) -> Loop:
    """Return a loop of Lightning's trainer, on such batches."""
    import_torchvision()  # before Lightning does
    import pytorch_lightning as pl

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = make().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

        def configure_optimizers(self) -> Any:
            optimizer = make_optimizer(self.net, [], 8e-3, 0.0)
            schedule = make_schedule("one-cycle", optimizer, epochs * (len(train) // batch_size))
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return cross_entropy(self.net(batch[0]), batch[1]).mean()

    def fit(pause: interleaved_timing.Pause) -> None:
        torch.manual_seed(0)
        module, batches = Module(), interleaved_timing.Paused(Batches(train, batch_size), pause)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pl.Trainer(
                max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
                enable_progress_bar=False, enable_model_summary=False, inference_mode=False,
            ).fit(module, batches)  # fmt: skip

    return fit


def write(name: str, heads: list[str], rows: list[list[Any]]) -> None:
    """Write a results file; rows of settings that were not measured now stay in it."""
    path, left = results_file.RESULTS / f"{name}.csv", set(SETTINGS) - {row[0] for row in rows}
    if path.is_file():
        with path.open(newline="") as file:
            rows = rows + [row for row in csv.reader(file) if row[0] in left]
    rows = sorted(rows, key=lambda row: SETTINGS.index(row[0]))
    results_file.write(name, heads, rows)


if __name__ == "__main__":
    interleaved_timing.one_heap()
    main()
