"""Data that settings are chosen by has images that nobody trains on, each bias alike."""

from __future__ import annotations

from pathlib import Path

import held_out
import pytest
import torch

from online_debias.data import BiasedDigits, ColoredMNIST, CorruptedCIFAR10
from online_debias.data.biasing.corruptions import CORRUPTIONS, corrupt
from online_debias.data.reading.lff_layout import cumulative_biases
from tests.test_published_data import write_binary, write_idx

pytestmark = pytest.mark.slow


def test_digits_are_tested_by_those_that_validate_each_colour_alike() -> None:
    given = {"colour_noise": 0.0, "pixel_noise": 0.1, "seed": 3}
    chosen_by = held_out.RecolouredDigits("fg", rho=0.99, **given).test()
    validation = BiasedDigits("fg", rho=0.1, **given).validation()
    assert torch.equal(chosen_by.images, validation.images)
    assert torch.equal(chosen_by.bias, validation.bias)


def test_settings_are_chosen_by_training_images_that_nobody_trains_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, targets = write_binary(tmp_path)
    monkeypatch.setattr(held_out, "ROWS", slice(-40, None))
    chosen_by = held_out.RecorruptedCIFAR10(tmp_path, skew=0.2, n_train=60)
    tested, train = chosen_by.test(), chosen_by.train()
    assert tested.bias is not None and torch.equal(tested.targets, targets[60:])
    assert torch.equal(tested.bias, cumulative_biases(targets[60:], 10, 0.9))  # each alike
    rows = tested.bias == list(CORRUPTIONS).index("brightness")
    wanted = corrupt(pixels[60:][rows], "brightness", 5, torch.Generator())
    assert rows.any() and torch.equal(tested.images[rows], wanted)
    plain = CorruptedCIFAR10(tmp_path, skew=0.2, n_train=60).train()
    assert torch.equal(train.images, plain.images)


def test_settings_are_chosen_by_digits_that_nobody_trains_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_idx(tmp_path, 600, 20)
    monkeypatch.setattr(held_out, "ROWS", slice(-200, None))
    chosen_by = held_out.RecolouredMNIST(tmp_path, skew=0.1, n_train=400)
    tested, train = chosen_by.test(), chosen_by.train()
    everything = ColoredMNIST(tmp_path, skew=0.1).train()
    assert torch.equal(tested.targets, everything.targets[400:600])
    assert tested.bias is not None
    assert torch.equal(tested.bias, cumulative_biases(tested.targets, 10, 0.9))  # each alike
    shape = tested.images.amax(1) > 0
    assert torch.equal(shape, everything.images[400:600].amax(1) > 0)
    plain = ColoredMNIST(tmp_path, skew=0.1, n_train=400).train()
    assert torch.equal(train.images, plain.images)
