"""The texture of images, and how likely a row conflicts, against loops and sums over cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from sklearn.metrics import roc_auc_score
from torch import Tensor

from online_debias.detectors import Discriminant
from online_debias.functional.conflict_share import (
    conflict_probability,
    label_likelihood,
    probability_score,
)
from online_debias.functional.draw_share import SHARPNESS, draw_share
from online_debias.functional.texture import FLAT, bands, cosines, texture
from tests.no_sync import NoSync

torch.set_num_threads(1)


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Texture.


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("side", [1, 3, 4])
@pytest.mark.parametrize("form", [torch.channels_last, torch.contiguous_format])
def test_bands_are_cosine_transforms_of_patches(
    channels: int, side: int, form: torch.memory_format
) -> None:
    for height, width, step in ((9, 8, 2), (70, 99, 2), (101, 97, 3)):
        images = torch.randn(1, channels, height, width, generator=stream())
        colours = dctn(images[0].double().numpy(), axes=(0,), norm="ortho")
        expected = []
        for top in range(0, height - side + 1, step):
            for left in range(0, width - side + 1, step):
                patch = dctn(colours[0, top : top + side, left : left + side], norm="ortho")
                middle = (side - 1) // 2
                rest = colours[1:, top + middle, left + middle]
                expected.append([*patch.flatten(), *rest])
        found = bands(images.contiguous(memory_format=form), side)[0]
        assert found.shape[1] == side**2 + channels - 1
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_statistics_are_those_of_each_band_and_pair(channels: int) -> None:
    images = torch.randn(3, channels, 22, 20, generator=stream()).cumsum(3)
    found, each = texture(images), bands(images)
    n = each.shape[2]
    assert n == 15 + channels
    assert found.shape == (3, channels + 2 * n + n * (n - 1) // 2)
    for row, places in zip(found.double(), each.double().numpy(), strict=True):
        band = places.T
        spread = band.std(1)
        evenness = np.abs(band - band.mean(1, keepdims=True)).mean(1) / spread
        pairs = np.corrcoef(band)[np.triu_indices(n, 1)]
        colour = band.mean(1)[[0, *range(16, n)]]
        expected = [*colour, *np.log(spread), *evenness, *pairs]
        np.testing.assert_allclose(row.numpy(), expected, rtol=1e-3, atol=2e-5)


def test_a_plain_surface_has_no_texture() -> None:
    found = texture(torch.full((1, 3, 9, 9), 0.7))[0]
    assert found.isfinite().all() and (found[3:21] == math.log(FLAT)).all()
    assert found[21:].abs().max() < 1e-2


def test_cosines_are_orthonormal_and_begin_with_the_mean() -> None:
    for n in (1, 3, 8):
        basis = cosines(n, "cpu")
        torch.testing.assert_close(basis @ basis.T, torch.eye(n))
        torch.testing.assert_close(basis[0], torch.full((n,), n**-0.5))


def test_texture_tells_how_a_picture_was_taken_and_not_where_things_are() -> None:
    wave = torch.fft.fftfreq(64).square()
    noise = torch.randn(1, 3, 64, 64, generator=stream())
    smooth = torch.fft.fft2(noise) / (wave + wave[:, None] + 1e-3).pow(0.75)  # as photographs are
    picture = torch.fft.ifft2(smooth).real
    picture /= picture.std()
    noisy = picture + torch.randn(picture.shape, generator=stream(1)) / 2
    blurred = torch.nn.functional.avg_pool2d(picture, 3, 1, 1)
    of = texture(torch.cat([picture, picture.roll((7, 5), (2, 3)), noisy, blurred]))
    moved, grain, blur = (of[1:] - of[0]).norm(dim=1).tolist()
    assert moved < grain / 3 and moved < blur / 3


# How likely a row conflicts.


def test_the_likelihood_sums_over_bias_values_and_the_posterior_is_bayes() -> None:
    n, share = 4, 0.1
    views = torch.rand(6, n, generator=stream(), dtype=torch.float64)
    views /= views.sum(1, keepdim=True)
    for view in views:
        total = 0.0
        for label in range(n):
            # the bias value is what the view says; the label goes with it, or is any other
            aligned = (1 - share) * float(view[label])
            conflicting = sum(
                float(view[bias]) * share / (n - 1) for bias in range(n) if bias != label
            )
            own, given = view[label], torch.tensor(share, dtype=torch.float64)
            likely = float(label_likelihood(own, given, n))
            assert likely == pytest.approx(aligned + conflicting)
            found = float(conflict_probability(own, given, n))
            assert found == pytest.approx(conflicting / (aligned + conflicting))
            total += likely
        assert total == pytest.approx(1)


def test_bounds_of_a_view_are_borne() -> None:
    own, share = torch.tensor([0.0, 1.0]), torch.tensor(0.02)
    assert conflict_probability(own, share, 10).tolist() == [1.0, 0.0]


def test_rows_are_drawn_in_proportion_to_their_probability() -> None:
    probability = torch.tensor([0.0, 1e-4, 0.02, 0.3, 0.5, 0.9, 1.0], dtype=torch.float64)
    score = probability_score(probability)
    assert score[0] == pytest.approx(0) and score[4] == 0.5 and score[-1] == pytest.approx(1)
    one = torch.zeros(7, dtype=torch.long)
    factor = draw_share(score, one, 1, share=0.999999, sharpness=SHARPNESS)
    drawn = (factor / factor.sum())[1:-1]
    torch.testing.assert_close(drawn, probability[1:-1] / probability.sum(), rtol=1e-4, atol=1e-6)


# The detector.

CLASSES, WIDTH = 5, 6


def rows(n: int, apart: float, share: float, seed: int = 0) -> tuple[Tensor, ...]:
    """Features around the mean of a bias value, which is another class's in a share of rows."""
    random = stream(seed)
    means = apart * torch.eye(CLASSES, WIDTH)
    y = torch.randint(CLASSES, (n,), generator=random)
    other = (y + torch.randint(1, CLASSES, (n,), generator=random)) % CLASSES
    conflicting = torch.rand(n, generator=random) < share
    noise = torch.randn(n, WIDTH, generator=random)
    return means[torch.where(conflicting, other, y)] + noise, y, conflicting


def learned(x: Tensor, y: Tensor, **settings: float) -> tuple[Discriminant, Tensor]:
    detector = Discriminant(**{"fold": 256, **settings})  # type: ignore[arg-type]
    detector.setup(x.shape[1], CLASSES, "cpu", 0)
    scores = [
        detector.step(x[i], y[i], torch.ones(len(i)))[0] for i in torch.arange(len(x)).split(64)
    ]
    return detector, torch.cat(scores)


def test_posteriors_are_those_of_a_discriminant_analysis_at_their_temperature() -> None:
    x, y, _ = rows(2000, 3.0, 0.0)
    detector, _ = learned(x, y, retention=0.9)
    precision = (detector.whiten.T @ detector.whiten).double()
    temperature = float(detector.temperature[detector.likeliest])
    for row, found in zip(x[:50].double(), detector.posterior(x[:50]), strict=True):
        away = row - detector.mean.double()
        log_density = -torch.einsum("ci,ij,cj->c", away, precision, away) / 2
        expected = (log_density / temperature).softmax(0)
        torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1])
def test_the_mean_score_is_the_share_of_conflicting_rows(share: float) -> None:
    x, y, conflicting = rows(20_000, 5.0, share)
    detector, scores = learned(x, y)
    late, truly = torch.sigmoid(24 * (scores[4000:] - 0.5)), conflicting[4000:].float()
    assert float(detector.conflicting) == pytest.approx(share, rel=0.25)
    assert float(late.mean()) == pytest.approx(float(truly.mean()), rel=0.1)
    assert roc_auc_score(truly, late) > 0.99


def test_heavy_tails_are_answered_by_a_temperature() -> None:
    plain, _ = learned(*rows(12_000, 3.0, 0.02)[:2])
    random, y = stream(), torch.arange(12_000) % CLASSES
    normal = torch.randn(len(y), WIDTH, generator=random)
    chi = torch.randn(len(y), 3, generator=random).square().mean(1, keepdim=True).sqrt()
    tailed, _ = learned(8 * torch.eye(CLASSES, WIDTH)[y] + normal / chi, y)
    assert plain.temperature[plain.likeliest] <= 1.5 < tailed.temperature[tailed.likeliest]


def test_where_a_view_errs_more_often_than_rows_conflict_few_are_called_so() -> None:
    x, y, conflicting = rows(12_000, 2.5, 0.02)
    detector, scores = learned(x, y)
    late, truly = scores[4000:] > 0.5, conflicting[4000:]
    errs = (detector.posterior(x[4000:]).argmax(1) != y[4000:]).float().mean()
    assert errs > 0.08 and late.float().mean() < 0.02
    assert truly[late].float().mean() > 0.5


def test_rows_of_no_mass_teach_nothing() -> None:
    x, y, _ = rows(2000, 3.0, 0.05)
    first, second = (learned(x, y)[0] for _ in range(2))
    broken = torch.full((64, WIDTH), torch.nan)
    second.learn(broken, y[:64], torch.zeros(64), rows=0)
    for name, value in first.additive().items():
        assert torch.equal(value, second.additive()[name]), name


def test_a_step_waits_for_nothing_and_scores_are_finite_for_odd_rows() -> None:
    x, y, _ = rows(600, 3.0, 0.05)
    x[300, 0], x[301, 1], x[302] = torch.nan, torch.inf, 1e30
    with NoSync():
        _, scores = learned(x, y)
    assert scores.isfinite().all() and scores.min() >= 0 and scores.max() <= 1


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 classes"):
        Discriminant().setup(3, 1, "cpu", 0)
