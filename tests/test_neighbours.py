"""Nearest images, against cdist, and the share of images that are nearer than they should be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from online_debias.functional.scores.neighbours import memorised_share, nearest


def images(n: int, seed: int) -> Tensor:
    stream = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 3, 4, 5), generator=stream, dtype=torch.uint8)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_nearest_is_what_cdist_finds(chunk: int) -> None:
    queries, known = images(20, 0), images(33, 1)
    every = torch.cdist(queries.flatten(1).double() / 255, known.flatten(1).double() / 255)
    every /= (3 * 4 * 5) ** 0.5
    distance, index = nearest(queries, known, chunk)
    assert index.equal(every.argmin(1))
    assert torch.allclose(distance.double(), every.min(1).values, atol=1e-6)


def test_float_images_are_taken_as_they_are() -> None:
    queries, known = torch.rand(9, 6), torch.rand(8, 6)
    every = torch.cdist(queries, known) / 6**0.5
    distance, index = nearest(queries, known, chunk=3)
    assert index.equal(every.argmin(1))
    assert torch.allclose(distance, every.min(1).values, atol=1e-6)


def test_a_copy_among_near_images_has_distance_exactly_zero() -> None:
    # One value of 3,000 differs by one: less than the rounding of a float32 square sum.
    original = torch.full((1, 3000), 255, dtype=torch.uint8)
    near = original.repeat(3, 1)
    near[torch.arange(3), torch.arange(3)] = 254
    known = torch.cat([near[:2], original, near[2:]])
    distance, index = nearest(original, known)
    assert distance.item() == 0
    assert index.item() == 2
    assert nearest(original, near)[0].item() > 0


def test_no_queries_have_no_neighbours() -> None:
    distance, index = nearest(images(0, 0), images(3, 1))
    assert distance.shape == index.shape == (0,)


def test_share_counts_what_is_below_the_percentile() -> None:
    stream = torch.Generator().manual_seed(0)
    distances, held_out = torch.rand(2, 300, generator=stream, dtype=torch.float64)
    for percentile in (0.0, 1.0, 12.5, 100.0):
        limit = held_out.quantile(percentile / 100)
        expected = sum(d < limit for d in distances.tolist()) / 300
        assert memorised_share(distances, held_out, percentile) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("queries", "known", "chunk", "message"),
    [
        (images(2, 0), images(2, 0)[:, :1], 256, r"queries are \[3, 4, 5\] and known .* same size"),
        (images(2, 0), images(0, 0), 256, "known has no images, expected at least one"),
        (images(2, 0), images(2, 0), 0, "chunk is 0, expected at least 1"),
    ],
)
def test_what_cannot_be_compared(queries: Tensor, known: Tensor, chunk: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nearest(queries, known, chunk)


def test_shares_of_nothing() -> None:
    with pytest.raises(ValueError, match="empty, expected at least one image in both"):
        memorised_share(torch.zeros(0), torch.zeros(2))
    with pytest.raises(ValueError, match="percentile is 101, expected 0 to 100"):
        memorised_share(torch.zeros(2), torch.zeros(2), 101)
