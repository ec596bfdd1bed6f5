"""The folder of synthetic images: made once, shared, refused to others."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from online_debias.data import Images
from online_debias.offline.ddb import synthetic
from online_debias.offline.ddb.denoiser import Denoiser
from online_debias.offline.ddb.diffusion import Diffusion
from online_debias.offline.ddb.diffusion_training import Trained
from online_debias.offline.ddb.synthetic import synthesize
from tests.conftest import make_images

TINY: dict[str, Any] = {"channels": (8, 8), "steps": 2, "batch_size": 8, "sampling_steps": 2}


@pytest.fixture
def train() -> Images:
    return make_images(120)


class Copies(Diffusion):
    """Hands out training images, or those it is given, as if it had drawn them."""

    def __init__(self, images: Images) -> None:
        super().__init__()
        self.images, self.drawn, self.fits = images, [0] * len(images.classes), 0

    def fit(self) -> Trained:
        self.fits += 1
        return Trained(Denoiser((3, 12, 12), 3, (8,)), 2.0, 100, 7)

    def sample(self, model: Denoiser, targets: Tensor, generator: Any = None) -> Tensor:
        label = int(targets[0])
        of_class = (self.images.targets == label).nonzero().flatten()
        start, self.drawn[label] = self.drawn[label], self.drawn[label] + len(targets)
        return self.images.images[of_class[start : start + len(targets)]]


@pytest.fixture(autouse=True)
def copies_are_not_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    train = synthetic.fit

    def fit(settings: Diffusion, *arguments: Any) -> Trained:
        return settings.fit() if isinstance(settings, Copies) else train(settings, *arguments)

    monkeypatch.setattr(synthetic, "fit", fit)


def test_the_folder_is_made_once(train: Images, tmp_path: Path) -> None:
    held_out = make_images(60, seed=1)
    made = synthesize(Diffusion(**TINY), train, held_out, tmp_path, per_class=5)
    assert made.images.images.shape == (15, 3, 12, 12)
    assert made.images.targets.bincount().tolist() == [5, 5, 5]
    assert made.images.bias is None
    assert made.images.classes == train.classes
    assert made.samples == 16
    assert made.parameters > 0
    names = {"neighbour_distance", "neighbour_distance_held_out", "memorised_share"}
    assert made.figures.keys() == names
    files = {"last.pt", "synthetic.safetensors", "synthetic.json", "samples.png", "neighbours.png"}
    assert files <= {path.name for path in tmp_path.iterdir()}

    class NoTraining(Diffusion):
        def fit(self, *args: Any, **kwargs: Any) -> Trained:
            raise AssertionError("trained again")

    same = NoTraining(**TINY)
    again = synthesize(same, train, held_out, tmp_path, per_class=5)
    assert again.images.images.equal(made.images.images)
    assert (again.seconds, again.samples) == (made.seconds, made.samples)
    assert again.figures == made.figures
    other = synthesize(Diffusion(**TINY), train, None, tmp_path / "other", per_class=5)
    assert other.images.images.equal(made.images.images)  # drawn alike in another folder
    assert other.figures.keys() == {"neighbour_distance"}


def test_two_that_want_a_folder_at_once_share_it(train: Images, tmp_path: Path) -> None:
    class Slow(Copies):
        def fit(self, *args: Any, **kwargs: Any) -> Trained:
            time.sleep(0.3)
            return super().fit(*args, **kwargs)

    slow = Slow(train)
    with ThreadPoolExecutor(2) as pool:
        tasks = [pool.submit(synthesize, slow, train, None, tmp_path, per_class=5) for _ in "ab"]
        one, other = [task.result() for task in tasks]
    assert slow.fits == 1
    assert one.images.images.equal(other.images.images)


def test_folders_of_others_and_damaged_ones_are_refused(train: Images, tmp_path: Path) -> None:
    def again(diffusion: Diffusion, data: Images = train, **changed: Any) -> None:
        synthesize(diffusion, data, None, tmp_path, **{"per_class": 10, **changed})

    copies = Copies(train)
    again(copies)
    with pytest.raises(ValueError, match="made from another data set; choose another folder or"):
        again(copies, make_images(120, seed=1))
    with pytest.raises(ValueError, match="made with per_class=10, not 11; choose another"):
        again(copies, per_class=11)
    with pytest.raises(ValueError, match="made with guidance=1.0, not 2"):
        again(Diffusion(guidance=2))
    with pytest.raises(ValueError, match="made with seed=0, not 3"):
        again(copies, seed=3)
    assert copies.fits == 1

    tensors, card = tmp_path / "synthetic.safetensors", tmp_path / "synthetic.json"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"synthetic.safetensors is damaged; choose another"):
        again(copies)
    tensors.unlink()
    with pytest.raises(ValueError, match=r"synthetic.safetensors is missing; choose another"):
        again(copies)
    text = json.loads(card.read_text())
    card.write_text(json.dumps({**text, "format": 0}))
    with pytest.raises(ValueError, match=r"synthetic.json is not of format 1; choose another"):
        again(copies)
    card.write_text("{")
    with pytest.raises(ValueError, match=r"synthetic.json is damaged; choose another folder"):
        again(copies)


def test_too_little_is_refused_before_training(train: Images, tmp_path: Path) -> None:
    copies = Copies(train)
    with pytest.raises(ValueError, match="per_class is 0, expected at least 1 image"):
        synthesize(copies, train, None, tmp_path, per_class=0)
    kept = torch.cat([(train.targets != 1).nonzero().flatten(), torch.tensor([1, 4])])
    few = Images(train.images[kept], train.targets[kept], None, train.classes)
    with pytest.raises(ValueError, match="class 'cross' has 2 training images, a class with too"):
        synthesize(copies, few, None, tmp_path)
    assert copies.fits == 0


def test_copies_are_caught_and_new_images_are_not(train: Images, tmp_path: Path) -> None:
    held_out, fresh = make_images(120, seed=1), make_images(120, seed=2)
    copied = synthesize(Copies(train), train, held_out, tmp_path / "copied", per_class=30)
    assert copied.figures["memorised_share"] == 1
    assert copied.figures["neighbour_distance"] == 0
    new = synthesize(Copies(fresh), train, held_out, tmp_path / "new", per_class=30)
    assert new.figures["memorised_share"] < 0.1
    held_out_distance = new.figures["neighbour_distance_held_out"]
    assert new.figures["neighbour_distance"] == pytest.approx(held_out_distance, rel=0.1)


def test_pictures_are_rows_of_classes_and_pairs(train: Images, tmp_path: Path) -> None:
    from PIL import Image

    synthesize(Copies(train), train, None, tmp_path, per_class=10)
    cell = 12 * 3 + 2
    with Image.open(tmp_path / "samples.png") as picture:
        assert picture.size == (8 * cell - 2, 3 * cell - 2)
    with Image.open(tmp_path / "neighbours.png") as picture:
        assert picture.size == (8 * cell - 2, 6 * cell - 2)
        upper = picture.crop((0, 0, cell, 36))
        assert upper.tobytes() == picture.crop((0, cell, cell, cell + 36)).tobytes()
