"""Many classes share masses: what is found stays what it was, and memory stays bounded."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from online_debias.callbacks import ConflictScore
from online_debias.detectors import BestViews, Detector, HalfSpaceTrees, MassTrees, PartViews
from online_debias.detectors.class_buckets import bucket_of, of_classes
from online_debias.engine import Engine

torch.set_num_threads(1)
CLASSES, BUCKETS, WIDTH = 12, 5, 6


def rows(n: int = 2048, classes: int = CLASSES, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Features that show a class, which is the label in nine of ten rows."""
    stream = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=stream)
    shown = torch.where(
        torch.rand(n, generator=stream) < 0.9, y, torch.randint(classes, (n,), generator=stream)
    )
    centres = 6 * torch.randn(classes, WIDTH, generator=stream)
    return centres[shown] + torch.randn(n, WIDTH, generator=stream), y, shown


def feed(detector: Detector, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    found = [
        detector.step(x[batch], y[batch], torch.ones(len(batch)))
        for batch in torch.arange(len(x)).split(64)
    ]
    posteriors = [posterior for _, posterior in found if posterior is not None]
    return torch.cat([score for score, _ in found]), torch.cat(posteriors)


def test_a_class_belongs_to_its_group_and_has_its_posterior() -> None:
    targets = torch.arange(CLASSES)
    buckets = bucket_of(targets, BUCKETS, CLASSES)
    posterior = torch.rand(3, 2, BUCKETS, generator=torch.Generator().manual_seed(0))
    spread = of_classes(posterior, CLASSES)
    assert spread.shape == (3, 2, CLASSES)
    for target in range(CLASSES):
        assert int(buckets[target]) == target % BUCKETS
        assert torch.equal(spread[..., target], posterior[..., target % BUCKETS])
    assert bucket_of(targets, CLASSES, CLASSES) is targets
    assert of_classes(posterior, BUCKETS) is posterior


@pytest.mark.parametrize("kind", [HalfSpaceTrees, MassTrees])
def test_trees_of_many_classes_are_those_of_their_groups(
    kind: type[HalfSpaceTrees | MassTrees],
) -> None:
    x, y, _ = rows()
    many, few = kind(20, fold=128, most_buckets=BUCKETS), kind(20, fold=128)
    many.setup(WIDTH, CLASSES, "cpu", seed=0)
    few.setup(WIDTH, BUCKETS, "cpu", seed=0)
    assert many.open.shape == few.open.shape
    for batch in torch.arange(len(x)).split(64):
        mass = torch.ones(len(batch))
        ours = many.step(x[batch], y[batch], mass)
        theirs = few.step(x[batch], y[batch] % BUCKETS, mass)
        assert torch.equal(ours[0], theirs[0])
        if kind is HalfSpaceTrees:
            assert ours[1] is not None and theirs[1] is not None
            assert torch.equal(ours[1][:, :BUCKETS], theirs[1])
    assert torch.equal(many.score(x, y), few.score(x, y % BUCKETS))


def test_a_row_agrees_if_the_view_shows_a_class_of_its_group() -> None:
    """Published is the target then, or else a class of another bucket."""
    x, y, shown = rows()
    score = ConflictScore(HalfSpaceTrees(40, fold=128, most_buckets=BUCKETS), tap="bottleneck")
    net = nn.Sequential(nn.Identity(), nn.Linear(WIDTH, CLASSES))
    engine = Engine(net, [score], n_samples=len(x), n_classes=CLASSES)
    found = []
    for batch_rows in torch.arange(len(x)).split(64):
        batch = engine.start_step(batch_rows, x[batch_rows], y[batch_rows])
        engine.loss(batch, net(batch.inputs)).backward()
        engine.end_step(batch)
        found.append((batch.signals["conflict"], batch.signals["bias_label"]))
    scores, buckets = (torch.cat(signal)[1024:] for signal in zip(*found, strict=True))
    y, shown = y[1024:], shown[1024:]
    alike, conflicting = y % BUCKETS == shown % BUCKETS, scores > 0.5
    assert (conflicting[~alike]).float().mean() > 0.9
    assert (buckets == y)[alike].float().mean() > 0.95
    assert torch.equal(buckets == y, scores == 0)
    assert (buckets[conflicting] == shown[conflicting] % BUCKETS).float().mean() > 0.9


def test_the_scan_finds_the_same_place_among_many_classes() -> None:
    classes, side = 130, 7
    stream = torch.Generator().manual_seed(0)
    y = torch.randint(classes, (4096,), generator=stream)
    maps = torch.randn(4096, WIDTH, side, side, generator=stream)
    maps[:, :, 2, 3] += 10 * torch.randn(classes, WIDTH, generator=stream)[y]
    views = BestViews(grids=(1, 7), slots=1, n_trees=24, fold=128)
    views.setup(WIDTH * side**2, classes, "cpu", seed=0)
    scores, posteriors = feed(views, maps.flatten(1), y)
    assert views.chosen.tolist() == [1 + 2 * side + 3]
    assert posteriors.shape == (4096, classes)
    assert (posteriors[-1024:].argmax(1) == y[-1024:]).float().mean() > 0.8
    assert scores[-1024:].median() == 0


@pytest.mark.parametrize(
    ("make", "features", "most"),
    [(HalfSpaceTrees, 64, 300), (BestViews, 16 * 49, 160), (PartViews, 64 * 36, 40)],
)
def test_memory_stays_bounded(make: type[Detector], features: int, most: int) -> None:
    """In megabytes of buffers, at ten thousand classes, scan and all."""
    detector = make()
    detector.setup(features, 10_000, "cpu", seed=0)
    held = sum(buffer.nbytes for buffer in detector.buffers())
    assert held < 1e6 * most
    fewer = make()
    fewer.setup(features, 2000, "cpu", seed=0)
    tables = sum(buffer.nbytes for buffer in fewer.buffers())
    assert held - tables < 8000 * 500  # a few numbers a class
