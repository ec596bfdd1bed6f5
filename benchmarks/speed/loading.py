"""What images cost beside the network: `python benchmarks/speed/loading.py [--quick]`.

Batches of small images, varied a little, from a data set that lies on the device as bytes, and from
a DataLoader whose workers vary one image at a time (torchvision); and the evaluation of 10,000
images with 100 groups beside its forward passes alone. Both sides take turns in one process, one
thread each; medians over the rounds, by the clock, go to benchmarks/results/loading.csv.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import interleaved_timing
import torch
from results_file import write
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from online_debias.data import Images
from online_debias.engine import Engine
from online_debias.functional.inputs.augment import mild
from online_debias.models import SmallConvNet
from online_debias.runtime.torchvision_compat import import_torchvision
from online_debias.settings.parser import parse
from online_debias.training.evaluation import measure, predict

BATCH, WORKERS, TEST = 128, 2, 10_000


class OneByOne(Dataset[Tensor]):
    """Images varied as `mild` does, one at a time, as torchvision's users have it."""

    def __init__(self, images: Tensor) -> None:
        import_torchvision()
        from torchvision.transforms import v2

        self.images, bilinear = images, v2.InterpolationMode.BILINEAR
        self.vary = v2.Compose(
            [
                v2.ToDtype(torch.float32, scale=True),
                v2.RandomAffine(15, (0.1, 0.1), (0.9, 1.1), interpolation=bilinear),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.vary(self.images[index])  # type: ignore[no-any-return]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="2 rounds; nothing is written")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    digits = parse(["--data", "BiasedDigits"])[0].data
    rounds = 2 if quick else 7
    train = digits.train()
    rows = compared(loaders(train.images), rounds, len(train), "microseconds an image")
    rows += compared(evaluations(repeated(digits.test(), TEST)), rounds, TEST, rows[0][1])
    if not quick:
        heads = ["what", "measure", "value", "ratio", "torch"]
        write("loading", heads, ([*row, torch.__version__] for row in rows))


def loaders(images: Tensor) -> dict[str, Callable[[], object]]:
    """Return what goes through all images, varied, in batches."""
    stream = torch.Generator().manual_seed(0)
    sets = DataLoader(
        OneByOne(images), BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True
    )

    def on_device() -> None:
        for index in torch.randperm(len(images), generator=stream).split(BATCH):
            mild(Images.to_float(images[index]), stream)

    def workers() -> None:
        for _ in sets:
            pass

    return {"on the device": on_device, f"DataLoader, {WORKERS} workers": workers}


def repeated(images: Images, n: int) -> Images:
    """Return `n` images, the same again and again."""
    index = torch.arange(n) % len(images)
    assert images.bias is not None
    return Images(images.images[index], images.targets[index], images.bias[index], images.classes)


def evaluations(images: Images) -> dict[str, Callable[[], object]]:
    """Return the forward passes over images alone, and their whole evaluation."""
    model = SmallConvNet(10).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    engine = Engine(model, n_samples=len(images), n_classes=10)
    given = model, images, torch.channels_last
    return {
        "forward passes": lambda: predict(*given),
        "evaluation, 100 groups": lambda: measure("test", engine, *given),
    }


def seconds(work: Callable[[], object]) -> float:
    """Return the time that a piece of work takes, by the clock."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compared(
    sides: dict[str, Callable[[], object]], rounds: int, images: int, name: str
) -> list[list[str]]:
    """Return a row for each side, with its ratio to the first."""
    for work in sides.values():
        work()  # warm-up; workers start
    took = interleaved_timing.take(
        {side: partial(seconds, work) for side, work in sides.items()}, rounds
    )
    first, rows = next(iter(sides)), []
    for side in sides:
        each = 1e6 * interleaved_timing.median(took, side) / images
        rows.append(
            [side, name, f"{each:.1f}", f"{interleaved_timing.ratio(took, side, first):.2f}"]
        )
        print(*rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    main()
