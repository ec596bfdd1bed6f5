"""Looking for a part of the image where the cells see no shortcut, and speaking for it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from online_debias.callbacks import Resample, ShortcutScore
from online_debias.detectors import PartViews
from online_debias.engine import Batch, Callback, Engine
from online_debias.runs.shortcut_sentence import sentence
from online_debias.views import PartView
from tests.test_part_views import CHANNELS, CLASSES, SIDE, drawn
from tests.test_texture_view import Cells

torch.set_num_threads(1)
ROWS = 6000


class Maps(nn.Module):
    """Inputs are the last feature map."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(CHANNELS, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.pool(inputs).flatten(1))
        return logits


class Loop:
    """An engine that sees the rows of `drawn`, in order, epoch by epoch; the cells see nothing."""

    def __init__(self, *others: Callback, kind: str = "bias", **settings: int) -> None:
        x, self.y, self.conflicting = drawn(kind, rows=ROWS)
        self.x = x.view(-1, CHANNELS, SIDE, SIDE)
        torch.manual_seed(0)
        self.net, self.cells = Maps(), Cells(0.0, self.y)
        self.cells.found = False
        self.parts = PartView(PartViews(fold=128, least=40), **settings)
        callbacks = [ShortcutScore([self.cells, self.parts]), *others]
        self.engine = Engine(self.net, callbacks, n_samples=ROWS, n_classes=CLASSES)

    @property
    def figures(self) -> dict[str, float | str | bool]:
        return self.engine.run.shortcut.figures

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


def silent(batch: Batch) -> bool:
    """Whether nothing is known of any row."""
    known = batch.known["conflict"]
    assert torch.equal(known, batch.known["bias_label"])
    assert not batch.signals["conflict"][~known].any()
    return not bool(known.any())


def test_it_rests_while_the_cells_see_a_shortcut() -> None:
    loop = Loop()
    loop.cells.found = True
    for _ in range(3):
        for batch in loop.epoch():
            assert not batch.features and bool((batch.signals["conflict"] == 0.25).all())
    assert not loop.parts.detector.n_features
    assert set(loop.figures) == {"shortcut", "shortcut_evidence", "shortcut_rows"}


def test_it_looks_after_a_silent_epoch_and_speaks_after_it_found_a_part() -> None:
    loop = Loop()
    quiet, looking = loop.epoch(), loop.epoch()
    resting = loop.engine.run.shortcut.resting
    speaking = loop.epoch()
    assert not any(batch.features for batch in quiet)
    assert all(silent(batch) for batch in (*quiet, *looking))
    assert all(set(batch.features) == {"parts"} for batch in looking)
    assert silent(speaking[0])  # a window comes first
    assert not resting and not loop.engine.run.shortcut.resting
    assert bool(loop.engine.run.shortcut.seen)
    speaking = speaking[5:]
    scores = torch.cat([batch.signals["conflict"] for batch in speaking])
    labels = torch.cat([batch.signals["bias_label"] for batch in speaking])
    found, conflicting = scores > 0.5, loop.conflicting[500:]
    assert (found & conflicting).sum() > 0.9 * conflicting.sum()
    assert (found & ~conflicting).sum() < 0.02 * len(found)
    assert torch.equal(labels != loop.y[500:], found)
    assert all(bool(batch.known["conflict"].all()) for batch in speaking)
    assert loop.figures["shortcut"] is True
    assert str(loop.figures["shortcut_part"]).endswith("left")
    assert "a part of the images (" in sentence(loop.figures)


@pytest.mark.parametrize("kind", ["hard", "noise"])
def test_it_stays_silent_where_no_part_shows_another_thing(kind: str) -> None:
    loop = Loop(kind=kind)
    for _ in range(3):
        assert all(silent(batch) for batch in loop.epoch())
    assert set(loop.figures) == {"shortcut", "shortcut_evidence", "shortcut_rows", "part_evidence"}
    assert loop.figures["shortcut"] is False


def test_the_cells_are_heard_again_once_they_see_a_shortcut() -> None:
    loop = Loop()
    for _ in range(2):
        loop.epoch()
    loop.cells.found = True
    assert bool((loop.step(torch.arange(100)).signals["conflict"] == 0.25).all())
    loop.engine.end_epoch()
    assert "shortcut_part" not in loop.figures
    loop.cells.found = False
    assert not bool((loop.step(torch.arange(100)).signals["conflict"] == 0.25).any())
    loop.engine.end_epoch()
    assert "shortcut_part" in loop.figures


def test_a_part_speaks_on_where_the_cells_were_ruled_out() -> None:
    loop = Loop()
    for _ in range(2):
        loop.epoch()
    loop.cells.ruled_out = True
    batches = loop.epoch()
    assert silent(batches[0]) and not silent(batches[-1])
    assert not loop.engine.run.shortcut.resting and loop.figures["shortcut"] is True


def test_it_gives_up() -> None:
    loop = Loop(kind="hard", rows=ROWS + 1)
    looked = [any(batch.features for batch in loop.epoch()) for _ in range(5)]
    assert looked == [False, True, True, False, False]


def test_what_is_not_known_is_drawn_evenly_and_what_is_found_is_not() -> None:
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
    before = {name: value.clone() for name, value in loop.parts.detector.named_buffers()}
    rows = loop.conflicting.nonzero().flatten()[:4]
    batch = loop.step(rows, mixed=torch.ones(4, dtype=torch.bool))
    assert not batch.signals["conflict"].any()
    assert torch.equal(batch.signals["bias_label"], batch.targets)
    for name, value in loop.parts.detector.named_buffers():
        assert torch.equal(value, before[name]), name


def test_vectors_have_no_parts() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, CLASSES))
    cells, parts = Cells(0.0, torch.arange(100) % CLASSES), PartView()
    cells.found = False
    engine = Engine(net, [ShortcutScore([cells, parts])], n_samples=100, n_classes=CLASSES)
    for _ in range(3):
        batch = engine.start_step(torch.arange(100), torch.randn(100, 4), torch.arange(100) % 8)
        engine.loss(batch, net(batch.inputs)).backward()
        engine.end_step(batch)
        engine.end_epoch()
        assert silent(batch)
    assert not parts.at_work and set(engine.run.shortcut.figures) == {
        "shortcut",
        "shortcut_evidence",
        "shortcut_rows",
    }


def test_of_few_classes_it_asks_for_no_features() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    cells = Cells(0.0, torch.arange(50) % 4)
    cells.found = False
    engine = Engine(net, [ShortcutScore([cells, PartView()])], n_samples=50, n_classes=4)
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
    assert loop.engine.predict_bias(features, loop.x[:200]) is None
    for _ in range(3):
        loop.epoch()
    shown = loop.engine.predict_bias(features, loop.x[:200])
    assert shown is not None
    assert ((shown != loop.y[:200]) == loop.conflicting[:200]).float().mean() > 0.95
    assert loop.engine.predict_bias({}, loop.x[:200]) is None


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
    assert one.parts.at_work == other.parts.at_work is True
    assert torch.equal(one.parts.evidence, other.parts.evidence)


def test_rows_out_of_range() -> None:
    with pytest.raises(ValueError, match="PartView: rows is 0, expected at least 1"):
        PartView(rows=0)
