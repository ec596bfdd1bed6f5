"""Looking for the places of a map that tell the class, and what is told there."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor

from online_debias.detectors import BestViews, HalfSpaceTrees, conflict
from tests.no_sync import NoSync

CHANNELS, SIDE, CLASSES = 4, 5, 3
SETTINGS = {"grids": (1, 5), "scan": 512, "fold": 64, "n_trees": 24, "scan_trees": 4}


def make(**settings: object) -> BestViews:
    views = BestViews(**{**SETTINGS, **settings})  # type: ignore[arg-type]
    views.setup(CHANNELS * SIDE**2, CLASSES, "cpu", seed=0)
    return views


def marked(
    rows: int, places: tuple[tuple[int, int], ...] = ((4, 1),), rho: float = 0.95, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy maps with a mark at some places, which is that of the class in a share rho of them."""
    stream = torch.Generator().manual_seed(seed)
    targets = torch.randint(CLASSES, (rows,), generator=stream)
    other = (targets + torch.randint(1, CLASSES, (rows,), generator=stream)) % CLASSES
    bias = torch.where(torch.rand(rows, generator=stream) < rho, targets, other)
    maps = torch.randn(rows, CHANNELS, SIDE, SIDE, generator=stream)
    for row, column in places:
        maps[:, :CLASSES, row, column] += 5 * F.one_hot(bias, CLASSES)
    return maps.flatten(1), targets, bias != targets


def feed(views: BestViews, x: Tensor, y: Tensor, size: int = 64) -> Tensor:
    scores = [
        views.step(x[rows], y[rows], torch.ones(len(rows)))[0]
        for rows in torch.arange(len(x)).split(size)
    ]
    return torch.cat(scores)


def test_views_are_the_means_over_cells() -> None:
    x = torch.randn(2, CHANNELS * SIDE**2)
    found, maps = make().views(x), x.view(2, CHANNELS, SIDE, SIDE)
    torch.testing.assert_close(found[:, 0], maps.mean((2, 3)))
    for cell in range(SIDE**2):
        torch.testing.assert_close(found[:, 1 + cell], maps[:, :, cell // SIDE, cell % SIDE])


def test_it_finds_the_mark_and_those_who_have_anothers() -> None:
    x, y, conflicting = marked(3000)
    views = make()
    scores = feed(views, x, y)
    assert views.chosen.unique().tolist() == [1 + 4 * SIDE + 1]
    late = slice(1000, None)
    assert roc_auc_score(conflicting[late], scores[late]) > 0.99
    whole = HalfSpaceTrees(n_trees=24, fold=64)
    whole.setup(CHANNELS * SIDE**2, CLASSES, "cpu", seed=0)
    parts = torch.arange(3000).split(64)
    drowned = torch.cat([whole.step(x[p], y[p], torch.ones(len(p)))[0] for p in parts])
    assert roc_auc_score(conflicting[late], drowned[late]) < 0.95


def test_further_views_are_read_if_they_are_as_good() -> None:
    views = make()
    feed(views, *marked(1000, places=((0, 0), (4, 1), (2, 3)))[:2])
    assert set(views.chosen.tolist()) == {1, 1 + 4 * SIDE + 1, 1 + 2 * SIDE + 3}
    best = int(views.agreement.argmax())
    assert views.chosen.tolist().count(best) == 2  # stands for the fourth, which tells nothing


def test_agreement_is_the_mean_over_classes_of_what_was_told_before_it_was_learned() -> None:
    """Against a count, row by row, of what the scan_forest says of a batch before it learns it."""
    x, y, _ = marked(640)
    views, scan_forest = make(scan=600), make(scan=600).scan_forest
    right, seen = torch.zeros(26, CLASSES), torch.zeros(CLASSES)
    for rows in torch.arange(640).split(64):
        if scan_forest.ready:
            told = scan_forest.block_posteriors(views.views(x[rows]).flatten(1)).argmax(2)
            for row, target in enumerate(y[rows].tolist()):
                seen[target] += 2
                right[:, target] += 2 * (told[row] == target)
        scan_forest.learn(views.views(x[rows]).flatten(1), y[rows], torch.full((64,), 2.0))
        views.learn(x[rows], y[rows], torch.full((64,), 2.0))
    assert not views.scanning
    torch.testing.assert_close(views.agreement, (right / seen).mean(1))


def test_rows_of_no_mass_do_not_choose() -> None:
    x, y, _ = marked(1024, places=((0, 0),))
    decoy, _, _ = marked(1024, places=((3, 3),), seed=1)
    both, masses = torch.cat([x[:, None], decoy[:, None]], 1), torch.tensor([1.0, 0.0])
    views = make(scan=1024)
    for rows in torch.arange(1024).split(32):
        views.learn(both[rows].flatten(0, 1), y[rows].repeat_interleave(2), masses.repeat(32))
    assert views.chosen.unique().tolist() == [1]


def test_scores_are_pure_and_of_the_posterior_in_every_phase() -> None:
    x, y, _ = marked(1024)
    views = make()
    for rows in torch.arange(1024).split(64):
        before = copy.deepcopy(views.state_dict())
        scores, posterior = views.score(x[rows], y[rows]), views.posterior(x[rows])
        torch.testing.assert_close(scores, conflict(posterior, y[rows]))
        for name, value in views.state_dict().items():
            assert not isinstance(value, Tensor) or torch.equal(value, before[name])
        stepped, told = views.step(x[rows], y[rows], torch.ones(len(rows)))
        torch.testing.assert_close(stepped, scores)
        assert told is not None
        torch.testing.assert_close(told, posterior)
    assert views.forest.ready


@pytest.mark.parametrize("rows", [256, 544, 960])
def test_state_goes_on_where_it_was(rows: int) -> None:
    x, y, _ = marked(1280)
    first = make()
    feed(first, x[:rows], y[:rows])
    second = make()
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(
        feed(second, x[rows:], y[rows:]), feed(first, x[rows:], y[rows:]), rtol=0, atol=0
    )


def test_no_step_waits_for_the_device() -> None:
    x, y, _ = marked(1024)
    views = make()
    with NoSync():
        feed(views, x, y)
    assert views.forest.ready


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"grids": ()}, "grids is .* rising"),
        ({"grids": (7, 1)}, "grids is .* rising"),
        ({"grids": (0, 2)}, "grids is .* rising"),
        ({"scan": 0}, "scan is 0"),
        ({"scan_trees": 0}, "scan_trees is 0"),
        ({"slots": 0}, "slots is 0"),
        ({"margin": 0.0}, "margin is 0.0"),
        ({"n_trees": 30}, "n_trees is 30.*multiple of the 4 blocks"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**settings)


def test_features_on_another_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="64 features are no map on a 7x7 grid.*pool=7.*'local'"):
        BestViews().setup(64, 3, "cpu", 0)


def test_trees_of_the_scan_are_given_back_when_the_forest_can_answer() -> None:
    x, y, _ = marked(1024)
    views = make()
    feed(views, x[:512], y[:512])
    held = sum(value.numel() for value in views.state_dict().values() if isinstance(value, Tensor))
    assert not views.forest.ready and views.scan_forest.n_features
    feed(views, x[512:], y[512:])
    assert views.forest.ready and views.ready and not views.scan_forest.n_features
    left = sum(value.numel() for value in views.state_dict().values() if isinstance(value, Tensor))
    assert left < held / 4
    views.setup(CHANNELS * SIDE**2, CLASSES, "cpu", seed=0)  # begins anew
    assert views.scanning and views.scan_forest.n_features and not views.ready
    assert torch.equal(feed(views, x, y), feed(make(), x, y))
