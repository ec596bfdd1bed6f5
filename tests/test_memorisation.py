"""Synthetic images are shown beside their nearest training images."""

from __future__ import annotations

import torch

from online_debias.offline.ddb.memorisation import memorisation
from tests.conftest import make_images


def test_pairs_come_nearest_first_and_are_those_of_all_classes() -> None:
    train = make_images(120)
    images = torch.cat([make_images(9, seed=1).images, train.images[[50, 7]]])
    _, (near, of) = memorisation(images, train.images)
    assert set(zip(near[:2].tolist(), of[:2].tolist(), strict=True)) == {(9, 50), (10, 7)}
    _, (some, _) = memorisation(images, train.images, limit=3)
    assert sorted(some.tolist()) == [0, 3, 7]
