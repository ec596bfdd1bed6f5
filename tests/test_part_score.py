"""Looking for a part of the image where no simple view is a shortcut, and speaking for it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from online_debias.callbacks import Abstain, NoiseFilter, PartScore, Resample
from online_debias.detectors import PartViews
from online_debias.engine import Batch, Callback, Engine
from online_debias.runs.shortcut_sentence import sentence
from tests.test_part_views import CHANNELS, CLASSES, SIDE, drawn

torch.set_num_threads(1)
ROWS = 6000


class Speaks(Callback):
    """Publishes scores and bias values that are wrong, and withholds them while told to."""

    provides = ("conflict", "bias_group")
    silent = True

    def on_features(self, batch: Batch) -> None:
        score = torch.full_like(batch.rate, 0.25).masked_fill(batch.mixed, 0)
        batch.publish("conflict", score)
        batch.publish("bias_group", batch.targets.clone())
        if self.silent:
            for signal in self.provides:
                batch.withhold(signal, torch.ones_like(batch.mixed))


class Maps(nn.Module):
    """Inputs are the last feature map."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(CHANNELS, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.pool(inputs).flatten(1))
        return logits


class Loop:
    """An engine that sees the rows of `drawn`, in order, epoch by epoch."""

    def __init__(self, *others: Callback, kind: str = "bias", **settings: int) -> None:
        x, self.y, self.conflicting = drawn(kind, rows=ROWS)
        self.x = x.view(-1, CHANNELS, SIDE, SIDE)
        torch.manual_seed(0)
        self.net, self.speaks = Maps(), Speaks()
        self.parts = PartScore(PartViews(fold=128, least=40), **settings)
        callbacks = [self.speaks, self.parts, *others]
        self.engine = Engine(self.net, callbacks, n_samples=ROWS, n_classes=CLASSES)

    def step(self, rows: Tensor, mixed: Tensor | None = None) -> Batch:
        batch = self.engine.start_step(rows, self.x[rows], self.y[rows])
        if mixed is not None:
            batch.mixed = mixed
        self.engine.loss(batch, self.net(batch.inputs)).backward()
        self.engine.end_step(batch)
        return batch

    def epoch(self) -> list[Batch]:
        found = [self.step(rows) for rows in torch.arange(ROWS).split(100)]
        self.engine.end_epoch()
        return found


def test_it_runs_between_the_verdict_and_those_who_build_on_it() -> None:
    others = [Resample(), NoiseFilter(), Abstain()]
    for listed in (others, others[::-1]):
        order = [callback.name for callback in Loop(*listed).engine.callbacks]
        assert order == ["speaks", "abstain", "part_score", "noise_filter", "resample"]


def test_it_rests_while_others_speak() -> None:
    loop = Loop()
    loop.speaks.silent = False
    for _ in range(3):
        for batch in loop.epoch():
            assert not batch.features and bool((batch.signals["conflict"] == 0.25).all())
    assert not loop.parts.detector.n_features and loop.parts.findings() == {}


def test_it_looks_after_a_silent_epoch_and_speaks_after_it_found_a_part() -> None:
    loop = Loop()
    silent, looking, speaking = loop.epoch(), loop.epoch(), loop.epoch()
    assert not any(batch.features for batch in silent)
    for batch in (*silent, *looking):
        assert bool(batch.silent("conflict")) and not batch.signals["conflict"].any()
    assert all(set(batch.features) == {"parts"} for batch in looking)
    assert all(bool(batch.silent("conflict")) for batch in speaking[:1])  # a window comes first
    speaking = speaking[5:]
    scores = torch.cat([batch.signals["conflict"] for batch in speaking])
    groups = torch.cat([batch.signals["bias_group"] for batch in speaking])
    found, conflicting = scores > 0.5, loop.conflicting[500:]
    assert (found & conflicting).sum() > 0.9 * conflicting.sum()
    assert (found & ~conflicting).sum() < 0.02 * len(found)
    assert torch.equal(groups != loop.y[500:], found)
    for batch in speaking:
        assert bool(batch.known("conflict").all()) and not bool(batch.silent("bias_group"))
        assert torch.equal(batch.published["conflict"], batch.signals["conflict"])
    named = loop.parts.findings()
    assert named["shortcut"] is True and str(named["shortcut_part"]).endswith("left")
    assert "a part of the images (" in sentence(named)


@pytest.mark.parametrize("kind", ["hard", "noise"])
def test_it_stays_silent_where_no_part_shows_another_thing(kind: str) -> None:
    loop = Loop(kind=kind)
    for _ in range(3):
        assert all(bool(batch.silent("conflict")) for batch in loop.epoch())
    assert set(loop.parts.findings()) == {"part_evidence"}


def test_who_spoke_first_is_heard_again() -> None:
    loop = Loop()
    for _ in range(2):
        loop.epoch()
    loop.speaks.silent = False
    assert bool((loop.step(torch.arange(100)).signals["conflict"] == 0.25).all())
    assert "shortcut" not in loop.parts.findings()
    loop.speaks.silent = True
    assert not bool((loop.step(torch.arange(100)).signals["conflict"] == 0.25).any())
    assert "shortcut" in loop.parts.findings()


def test_it_gives_up() -> None:
    loop = Loop(kind="hard", rows=ROWS + 1)
    looked = [any(batch.features for batch in loop.epoch()) for _ in range(5)]
    assert looked == [False, True, True, False, False]


def test_what_is_withheld_is_drawn_evenly_and_what_is_found_is_not() -> None:
    loop = Loop(Resample())
    rates = []
    for _ in range(4):
        for rows in torch.tensor(list(loop.engine.sampler())).split(100):
            loop.step(rows)
        rates.append(loop.engine.run.max_rate)
        loop.engine.end_epoch()
    assert rates[:3] == [1, 1, 1] and rates[3] > 2


def test_mixed_rows_are_neither_scored_nor_learned() -> None:
    loop = Loop()
    for _ in range(2):
        loop.epoch()
    before = {name: value.clone() for name, value in loop.parts.detector.additive().items()}
    rows = loop.conflicting.nonzero().flatten()[:4]
    batch = loop.step(rows, mixed=torch.ones(4, dtype=torch.bool))
    assert not batch.signals["conflict"].any()
    assert torch.equal(batch.signals["bias_group"], batch.targets)
    for name, value in loop.parts.detector.additive().items():
        assert torch.equal(value, before[name]), name


def test_vectors_have_no_parts() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, CLASSES))
    parts = PartScore()
    engine = Engine(net, [Speaks(), parts], n_samples=100, n_classes=CLASSES)
    for _ in range(3):
        batch = engine.start_step(torch.arange(100), torch.randn(100, 4), torch.arange(100) % 8)
        engine.loss(batch, net(batch.inputs)).backward()
        engine.end_step(batch)
        engine.end_epoch()
        assert bool(batch.silent("conflict"))
    assert not parts.working and parts.findings() == {}


def test_of_few_classes_it_asks_for_no_features() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    engine = Engine(net, [Speaks(), PartScore()], n_samples=50, n_classes=4)
    for _ in range(2):
        rows = torch.arange(50)
        batch = engine.start_step(rows, torch.randn(50, 3, 6, 6), rows % 4)
        engine.loss(batch, net(batch.inputs)).backward()
        engine.end_step(batch)
        engine.end_epoch()
        assert not batch.features


def test_it_tells_what_other_images_show_once_it_speaks() -> None:
    loop = Loop()
    features = {"parts": loop.x[:200].flatten(1)}
    assert loop.engine.bias_view(features, loop.x[:200]) is None
    for _ in range(3):
        loop.epoch()
    shown = loop.engine.bias_view(features, loop.x[:200])
    assert shown is not None
    assert ((shown != loop.y[:200]) == loop.conflicting[:200]).float().mean() > 0.95
    assert loop.engine.bias_view({}, loop.x[:200]) is None


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_run_goes_on_where_it_stopped(epochs: int) -> None:
    one, other = Loop(), Loop()
    for _ in range(epochs):
        one.epoch()
    one.step(torch.arange(100))
    other.net.load_state_dict(copy.deepcopy(one.net.state_dict()))
    other.engine.load_state_dict(copy.deepcopy(one.engine.state_dict()))
    for rows in torch.arange(100, 2000).split(100):
        ours, theirs = one.step(rows), other.step(rows)
        for name, value in ours.signals.items():
            assert torch.equal(value, theirs.signals[name])
    one.engine.end_epoch()
    other.engine.end_epoch()
    assert one.parts.taps == other.parts.taps
    assert torch.equal(one.parts.evidence, other.parts.evidence)


def test_rows_out_of_range() -> None:
    with pytest.raises(ValueError, match="rows is 0, expected at least 1"):
        PartScore(rows=0)
