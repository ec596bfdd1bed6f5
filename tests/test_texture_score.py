"""Speaking for a view that errs often, where the texture of the images says more."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from online_debias.callbacks import Abstain, Augment, NoiseFilter, PartScore, Resample, TextureScore
from online_debias.detectors import Mahalanobis
from online_debias.engine import Batch, Callback, Engine
from online_debias.runs.shortcut_sentence import sentence

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


class View(Callback):
    """Publishes a bias value of every row, wrong of a share of them, with the score 1/4."""

    provides = ("conflict", "bias_group")

    def __init__(self, errs: float, bias: Tensor, name: str = "view") -> None:
        super().__init__(name)
        self.errs, self.bias = errs, bias
        self.withheld, self.hushed = torch.zeros(ROWS).bool(), False

    def on_features(self, batch: Batch) -> None:
        wrong = (batch.index * 37 % 100) < 100 * self.errs
        batch.publish("conflict", torch.full_like(batch.rate, 0.25).masked_fill(batch.mixed, 0))
        bias = self.bias[batch.index]
        batch.publish("bias_group", torch.where(wrong, (bias + 1) % CLASSES, bias))
        for signal in self.provides:
            batch.withhold(signal, self.withheld[batch.index])
            if self.hushed:
                batch.hush(signal)


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
        # Mostly the class that the grain is of, unless the view sees another thing.
        bias = self.y if unlike else (self.y + self.conflicting) % CLASSES
        self.view, self.texture = View(errs, bias), TextureScore(Mahalanobis(fold=128), least=600)
        callbacks = [self.view, self.texture, *others]
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


def test_it_runs_after_the_verdict_and_before_those_who_replace_it() -> None:
    others = [Resample(), NoiseFilter(), PartScore(), Abstain(), Augment()]
    for listed in (others, others[::-1]):
        order = [callback.name for callback in Loop(0.0, *listed).engine.callbacks]
        between = [name for name in order if name not in ("augment", "resample")]
        assert between == ["view", "abstain", "texture_score", "part_score", "noise_filter"]


@pytest.mark.parametrize("errs", [0.1, 0.4])
def test_it_speaks_where_the_view_errs_and_texture_tells_more(errs: float) -> None:
    loop = Loop(errs)
    first, second = loop.epoch(), loop.epoch()
    assert (scores(first[:10]) == 0.25).all()  # before `least` rows
    found = scores(second) > 0.5
    assert (found & loop.conflicting).sum() > 0.8 * loop.conflicting.sum()
    assert (found & ~loop.conflicting).sum() < 0.01 * ROWS
    seen = torch.cat([batch.signals["bias_group"] for batch in second])
    assert torch.equal(seen != loop.y, found)
    assert all(bool(batch.known("conflict").all()) for batch in second)
    assert all(
        torch.equal(batch.published["conflict"], batch.signals["conflict"]) for batch in second
    )
    told = loop.texture.findings()
    assert set(told) == {"shortcut_texture"} and float(told["shortcut_texture"]) > 0.9
    found_text = sentence({"shortcut": True, "shortcut_evidence": 0.5, **told})
    assert "texture" in found_text and f"{told['shortcut_texture']:.2f}" in found_text


@pytest.mark.parametrize(("errs", "share"), [(0.0, 0.04), (0.02, 0.04), (0.1, 0.2)])
def test_a_view_of_few_errors_of_its_own_is_left_in_charge_and_it_rests(
    errs: float, share: float
) -> None:
    loop = Loop(errs, share=share)
    for _ in range(2):
        assert (scores(loop.epoch()) == 0.25).all()
    learned = int(loop.texture.rows)
    loop.epoch()
    assert loop.texture.resting and learned == loop.texture.rows == ROWS
    assert loop.texture.findings() == {}


@pytest.mark.parametrize("share", [0.0, 0.04])
def test_texture_that_tells_more_because_it_sees_another_thing_does_not_speak(
    share: float,
) -> None:
    loop = Loop(errs=0.2, share=share, unlike=True)  # what the view contradicts, texture does not
    for _ in range(2):
        assert (scores(loop.epoch()) == 0.25).all()
    published, by_texture = loop.texture.evidence
    assert by_texture > 0.9 > 0.75 > published and loop.texture.resting


def test_texture_that_tells_less_than_the_view_does_not_speak() -> None:
    loop = Loop(errs=0.25, share=2 / 3)  # every grain as often in each class
    for _ in range(2):
        assert (scores(loop.epoch()) == 0.25).all()
    assert loop.texture.resting


def test_it_tells_what_other_images_show_while_it_speaks() -> None:
    loop = Loop(0.4)
    images = loop.x[:200]
    view = loop.engine.bias_view
    assert view({}, images) is None
    loop.epoch()
    shown = view({}, images)
    assert shown is not None
    assert ((shown != loop.y[:200]) == loop.conflicting[:200]).float().mean() > 0.95
    resumed = Loop(0.4)
    resumed.engine.load_state_dict(loop.engine.state_dict())
    again = resumed.engine.bias_view({}, images)
    assert again is not None and torch.equal(again, shown)
    loop.view.hushed = True  # the verdict is that there is no shortcut
    loop.epoch()
    assert view({}, images) is None
    resumed.engine.load_state_dict(loop.engine.state_dict())
    assert resumed.engine.bias_view({}, images) is None


def test_texture_of_no_use_tells_nothing_of_other_images() -> None:
    loop = Loop(0.0)
    loop.epoch()
    assert loop.engine.bias_view({}, loop.x[:200]) is None


def test_rows_that_are_withheld_stay_so() -> None:
    loop = Loop(errs=0.4)
    loop.epoch()
    loop.view.withheld = torch.arange(ROWS) % 2 == 0
    batches = loop.epoch()
    withheld = loop.view.withheld
    assert not scores(batches)[withheld].any() and scores(batches)[~withheld].any()
    known = torch.cat([batch.known("conflict") for batch in batches])
    assert torch.equal(known, ~withheld)
    loop.view.hushed = True
    rows = loop.texture.rows
    assert all("conflict" in batch.hushed for batch in loop.epoch()) and loop.texture.rows == rows


def test_it_sees_images_as_they_were_drawn_and_mixed_rows_score_0() -> None:
    loop = Loop(0.4, Mixes("a_mixes"))
    loop.epoch()
    batches = loop.epoch()
    mixed = torch.arange(ROWS) % 10 == 0
    assert not scores(batches)[mixed].any()
    for batch in batches:
        assert batch.originals is not None and not batch.inputs[batch.mixed].any()
        assert torch.equal(batch.originals, loop.x[batch.index])
    found = scores(batches)[~mixed] > 0.5
    assert (found == loop.conflicting[~mixed]).float().mean() > 0.99


def test_what_is_no_image_or_too_small_has_no_texture() -> None:
    for shape in ((9,), (3, 4, 4)):
        texture = TextureScore(least=8)
        net = nn.Sequential(nn.Flatten(), nn.LazyLinear(CLASSES))
        net(torch.zeros(1, *shape))
        view = View(0.5, torch.arange(ROWS) % CLASSES)
        engine = Engine(net, [view, texture], n_samples=ROWS, n_classes=CLASSES)
        batch = engine.start_step(
            torch.arange(8), torch.zeros(8, *shape), torch.arange(8) % CLASSES
        )
        engine.loss(batch, net(batch.inputs))
        assert texture.resting and (batch.signals["conflict"] == 0.25).all()


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="errors is 0"):
        TextureScore(errors=0)
    with pytest.raises(ValueError, match="same is 1"):
        TextureScore(same=1)
    with pytest.raises(ValueError, match="Blind has no class posteriors.*use Mahalanobis"):
        TextureScore(Blind())
    with pytest.raises(ValueError, match="least is 0"):
        TextureScore(least=0)
