"""A small biased image set that trains in a second; one thread, so that tests do not compete."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from online_debias.callbacks import Augment, CrossBiasMix, EnD, NoiseScore, Resample, ShortcutScore
from online_debias.data import Images
from online_debias.detectors import BestViews
from online_debias.engine import Batch, Callback, Monitor, Samples
from online_debias.models import SmallConvNet
from online_debias.runtime import scores_csv
from online_debias.training.settings import TrainingSettings
from online_debias.training.trainer import Trainer
from online_debias.views import CellView, PartView, ShortcutTest, TextureView

torch.set_num_threads(1)

CLASSES = ("bar", "cross", "ring")
COLOURS = torch.tensor([[230, 40, 40], [40, 230, 40], [40, 40, 230]], dtype=torch.uint8)


def make_images(n: int = 240, rho: float = 0.9, seed: int = 0) -> Images:
    """Noisy shapes on a background whose colour agrees with the class in a share rho of images."""
    stream = torch.Generator().manual_seed(seed)
    targets = torch.arange(n) % 3
    other = (targets + torch.randint(1, 3, (n,), generator=stream)) % 3
    bias = torch.where(torch.rand(n, generator=stream) < rho, targets, other)
    shapes = torch.zeros(3, 12, 12, dtype=torch.bool)
    shapes[0, 2:10, 5:7] = True
    shapes[1, 5:7, 2:10] = shapes[1, 2:10, 5:7] = True
    shapes[2, 2:10, 2:10] = True
    shapes[2, 4:8, 4:8] = False
    images = COLOURS[bias][:, :, None, None].expand(n, 3, 12, 12).clone()
    images[shapes[targets][:, None].expand_as(images)] = 250
    noise = torch.randint(-20, 21, images.shape, generator=stream)
    pixels = (images.int() + noise).clamp(0, 255).to(torch.uint8)
    return Images(pixels, targets, bias, CLASSES)


def make_model() -> nn.Module:
    """The same small network with the same weights, each time."""
    torch.manual_seed(0)
    return SmallConvNet(3, widths=(8, 8, 8))


def make_trainer(
    callbacks: Iterable[Callback] = (),
    images: Images | None = None,
    monitors: Iterable[Monitor] = (),
    evaluate_on: Mapping[str, Images] | None = None,
    run: Path | None = None,
    **settings: Any,
) -> Trainer:
    """A trainer of the small network, with some settings other than by default."""
    return Trainer(
        make_model(),
        make_images() if images is None else images,
        callbacks,
        monitors,
        settings=TrainingSettings(**settings),
        evaluate_on=evaluate_on,
        run=run,
    )


def make_cells(threshold: float = 0.2, **test: float) -> CellView:
    """The cells' view with trees and a test that come early."""
    views = BestViews(grids=(1, 7), scan=96, scan_trees=2, n_trees=12, height=4, fold=64)
    early = {"hint": threshold, "window": 480, "least": 48, **test}
    return CellView(views, test=ShortcutTest(threshold, **early))  # type: ignore[arg-type]


def make_recipe() -> list[Callback]:
    """The callbacks of the online recipe, with views and a verdict that come early."""
    views = [make_cells(), TextureView(least=480), PartView()]
    return [
        Augment(least_rate=2),
        ShortcutScore(views),
        NoiseScore(separation=0.3, warmup=1),
        Resample(sharpness=10),
        CrossBiasMix(),
        EnD(alpha=0.1, beta=1.0),
    ]


def keep(samples: Samples, batch: Batch) -> None:
    """Remember a step, as the engine does."""
    assert batch.logits is not None
    samples.remember(batch.index, batch.targets, batch.signals, batch.known)
    samples.count(batch.index, batch.targets, batch.logits, ~batch.mixed)


def make_files(folder: Path) -> None:
    """What callbacks read by default: noisy pseudo-labels, and a network trained to be biased."""
    images = make_images()
    assert images.bias is not None
    noise = torch.rand(len(images), generator=torch.Generator().manual_seed(0))
    score = 0.7 * (images.bias != images.targets).float() + 0.3 * noise
    scores_csv.write(folder / "scores.csv", scores_csv.Scores(images.targets, score, images.bias))
    torch.manual_seed(1)
    network = SmallConvNet(3)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(5):
        logits = network(Images.to_float(images.images))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, images.bias).backward()
        optimizer.step()
    safetensors.torch.save_file(network.state_dict(), folder / "model.safetensors")


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "put this callback, by its import path, through tests/contract.py too"
    parser.addoption("--callback", action="append", default=[], help=text)


@pytest.fixture
def images() -> Images:
    return make_images()


@pytest.fixture
def model() -> nn.Module:
    return make_model()


@pytest.fixture
def recipe() -> Callable[[], list[Callback]]:
    return make_recipe
