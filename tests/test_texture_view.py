"""Texture speaks in the cells' place where they err often and it says more."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from online_debias.callbacks import ShortcutScore
from online_debias.detectors import Mahalanobis
from online_debias.engine import Batch, Callback, Engine
from online_debias.runs.shortcut_sentence import sentence
from online_debias.views import CellView, TextureView

torch.set_num_threads(1)
CLASSES, ROWS, SIDE = 3, 1200, 12


def grainy(share: float = 0.04) -> tuple[Tensor, Tensor, Tensor]:
    """Noise whose grain is that of the class, of another one's in a share of rows."""
    random = torch.Generator().manual_seed(0)
    y = torch.randint(CLASSES, (ROWS,), generator=random)
    conflicting = torch.rand(ROWS, generator=random) < share
    bias = (y + conflicting) % CLASSES
    fine = torch.randn(ROWS, 3, SIDE, SIDE, generator=random)
    grains = [fine, *(nn.functional.avg_pool2d(fine, k, 1, k // 2) * k for k in (3, 5))]
    return torch.stack(grains)[bias, torch.arange(ROWS)], y, conflicting


class Cells(CellView):
    """Sees a bias value in every row, wrong in a share of them, with the score 1/4.

    Rows must come in order.
    """

    ready = True  # type: ignore[assignment]

    def __init__(self, errs: float, bias: Tensor) -> None:
        super().__init__()
        wrong = torch.arange(len(bias)) * 37 % 100 < 100 * errs
        self.label = torch.where(wrong, (bias + 1) % (bias.max() + 1), bias)
        self.taps, self.at, self.found, self.ruled_out = (), 0, True, False

    @property
    def at_work(self) -> bool:
        return not self.ruled_out

    def read(self, features: Mapping[str, Tensor], images: Tensor | None) -> Tensor:
        return torch.zeros(0)

    def step(self, x: Tensor, targets: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
        label = self.label.roll(-self.at)[: len(targets)]
        self.at += len(targets)
        return torch.full_like(mass, 0.25), nn.functional.one_hot(label).float()

    def judge(self, *counted: Tensor) -> Tensor:
        return torch.tensor(self.found)

    def predict(self, features: Mapping[str, Tensor], images: Tensor) -> Tensor:
        return torch.full((len(images),), -7)


class Mixes(Callback):
    """Marks every tenth row as mixed, and spoils what the model sees of it."""

    def on_batch(self, batch: Batch) -> None:
        batch.mixed = batch.index % 10 == 0
        batch.inputs = torch.where(batch.mixed.view(-1, 1, 1, 1), 0.0, batch.inputs)


class Blind(Mahalanobis):
    """Has no posteriors."""

    has_posterior = False


class Loop:
    """An engine that sees all rows in order, epoch by epoch."""

    def __init__(
        self, errs: float, *others: Callback, share: float = 0.04, unlike: bool = False
    ) -> None:
        self.x, self.y, self.conflicting = grainy(share)
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, CLASSES))
        # Mostly the class that the grain is of, unless the cells see another thing.
        bias = self.y if unlike else (self.y + self.conflicting) % CLASSES
        self.cells = Cells(errs, bias)
        self.texture = TextureView(Mahalanobis(fold=128), least=600)
        callbacks = [ShortcutScore([self.cells, self.texture]), *others]
        self.engine = Engine(self.net, callbacks, n_samples=ROWS, n_classes=CLASSES)

    def epoch(self) -> list[Batch]:
        found = []
        for rows in torch.arange(ROWS).split(60):
            batch = self.engine.start_step(rows, self.x[rows], self.y[rows])
            self.engine.loss(batch, self.net(batch.inputs)).backward()
            self.engine.end_step(batch)
            found.append(batch)
        self.engine.end_epoch()
        return found


def scores(batches: list[Batch]) -> Tensor:
    return torch.cat([batch.signals["conflict"] for batch in batches])


@pytest.mark.parametrize("errs", [0.1, 0.4])
def test_it_speaks_where_the_cells_err_and_texture_tells_more(errs: float) -> None:
    loop = Loop(errs)
    first, second = loop.epoch(), loop.epoch()
    assert (scores(first[:10]) == 0.25).all()  # before `least` rows
    found = scores(second) > 0.5
    assert (found & loop.conflicting).sum() > 0.8 * loop.conflicting.sum()
    assert (found & ~loop.conflicting).sum() < 0.01 * ROWS
    seen = torch.cat([batch.signals["bias_label"] for batch in second])
    assert torch.equal(seen != loop.y, found)
    assert all(bool(batch.known["conflict"].all()) for batch in second)
    figures = loop.texture.figures()
    assert set(figures) == {"shortcut_texture"} and float(figures["shortcut_texture"]) > 0.9
    assert figures.items() <= loop.engine.run.shortcut.figures.items()
    found_text = sentence({"shortcut": True, "shortcut_evidence": 0.5, **figures})
    assert "texture" in found_text and f"{figures['shortcut_texture']:.2f}" in found_text


@pytest.mark.parametrize(("errs", "share"), [(0.0, 0.04), (0.02, 0.04), (0.1, 0.2)])
def test_cells_of_few_errors_of_their_own_are_left_in_charge_and_it_rests(
    errs: float, share: float
) -> None:
    loop = Loop(errs, share=share)
    for _ in range(2):
        assert (scores(loop.epoch()) == 0.25).all()
    learned = loop.texture.rows
    loop.epoch()
    assert loop.texture.resting and learned == loop.texture.rows == ROWS
    assert loop.texture.figures() == {}
    assert "shortcut_texture" not in loop.engine.run.shortcut.figures


@pytest.mark.parametrize("share", [0.0, 0.04])
def test_texture_that_tells_more_because_it_sees_another_thing_does_not_speak(
    share: float,
) -> None:
    loop = Loop(errs=0.2, share=share, unlike=True)  # what the cells contradict, texture does not
    for _ in range(2):
        assert (scores(loop.epoch()) == 0.25).all()
    by_cells, by_texture = loop.texture.evidence
    assert by_texture > 0.9 > 0.75 > by_cells and loop.texture.resting


def test_texture_that_tells_less_than_the_cells_does_not_speak() -> None:
    loop = Loop(errs=0.25, share=2 / 3)  # every grain as often in each class
    for _ in range(2):
        assert (scores(loop.epoch()) == 0.25).all()
    assert loop.texture.resting


def test_it_tells_what_other_images_show_while_it_speaks() -> None:
    loop = Loop(0.4)
    images = loop.x[:200]
    predict = loop.engine.predict_bias
    assert predict({}, images) is None
    loop.epoch()
    shown = predict({}, images)
    assert shown is not None
    assert ((shown != loop.y[:200]) == loop.conflicting[:200]).float().mean() > 0.95
    resumed = Loop(0.4)
    resumed.engine.load_state_dict(loop.engine.state_dict())
    again = resumed.engine.predict_bias({}, images)
    assert again is not None and torch.equal(again, shown)
    loop.cells.ruled_out = True  # the verdict is that there is no shortcut
    loop.epoch()
    assert predict({}, images) is None
    resumed.engine.load_state_dict(loop.engine.state_dict())
    assert resumed.engine.predict_bias({}, images) is None


def test_of_texture_that_is_of_no_use_other_images_are_not_asked() -> None:
    loop = Loop(0.0)
    loop.epoch()
    shown = loop.engine.predict_bias({}, loop.x[:200])
    assert shown is not None and (shown == -7).all()  # by the cells


def test_nothing_is_known_while_the_cells_see_no_shortcut() -> None:
    loop = Loop(errs=0.4)
    loop.epoch()
    loop.cells.found = False
    batches, rows = loop.epoch(), loop.texture.rows
    assert not scores(batches).any() and not any(batch.known["conflict"].any() for batch in batches)
    assert rows == 2 * ROWS  # it goes on learning
    loop.cells.found = True
    assert scores(loop.epoch()).any()
    loop.cells.ruled_out = True
    rows = loop.texture.rows
    assert not scores(loop.epoch()).any() and loop.texture.rows == rows
    assert loop.engine.run.shortcut.resting
    assert "shortcut_texture" not in loop.engine.run.shortcut.figures


def test_it_sees_images_as_they_were_drawn_and_mixed_rows_score_0() -> None:
    loop = Loop(0.4, Mixes("a_mixes"))
    loop.epoch()
    batches = loop.epoch()
    mixed = torch.arange(ROWS) % 10 == 0
    assert not scores(batches)[mixed].any()
    for batch in batches:
        assert batch.originals is not None and not batch.inputs[batch.mixed].any()
        assert torch.equal(batch.originals, loop.x[batch.index])
        assert torch.equal(batch.known["conflict"], ~batch.mixed)
    found = scores(batches)[~mixed] > 0.5
    assert (found == loop.conflicting[~mixed]).float().mean() > 0.99


def test_what_is_no_image_or_too_small_has_no_texture() -> None:
    for shape in ((9,), (3, 4, 4)):
        texture = TextureView(least=8)
        net = nn.Sequential(nn.Flatten(), nn.LazyLinear(CLASSES))
        net(torch.zeros(1, *shape))
        cells = Cells(0.5, torch.arange(ROWS) % CLASSES)
        engine = Engine(net, [ShortcutScore([cells, texture])], n_samples=ROWS, n_classes=CLASSES)
        batch = engine.start_step(
            torch.arange(8), torch.zeros(8, *shape), torch.arange(8) % CLASSES
        )
        engine.loss(batch, net(batch.inputs))
        assert texture.resting and (batch.signals["conflict"] == 0.25).all()


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="TextureView: errors is 0, expected 0 < errors <= 1"):
        TextureView(errors=0)
    with pytest.raises(ValueError, match="TextureView: same is 1, expected 0 <= same < 1"):
        TextureView(same=1)
    with pytest.raises(ValueError, match="Blind has no class posteriors.*use Mahalanobis"):
        TextureView(Blind())
    with pytest.raises(ValueError, match="TextureView: least is 0, expected at least 1"):
        TextureView(least=0)
