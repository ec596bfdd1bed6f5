"""What callbacks contribute to a step, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from online_debias import callbacks
from online_debias.engine import Batch, Callback, Engine, Run
from tests.conftest import keep

torch.set_num_threads(1)


@pytest.fixture
def batch() -> Batch:
    return Batch(
        step=0,
        epoch=0,
        index=torch.arange(4),
        inputs=torch.zeros(4, 3, 8, 8),
        targets=torch.zeros(4, dtype=torch.long),
        rate=torch.ones(4),
        mixed=torch.zeros(4, dtype=torch.bool),
    )


def leaf(*shape: int) -> Tensor:
    return torch.ones(*shape, requires_grad=True)


def test_a_batch_is_as_long_as_its_rows(batch: Batch) -> None:
    assert len(batch) == 4


def test_batches_do_not_share_their_contributions(batch: Batch) -> None:
    other = Batch(1, 0, batch.index, batch.inputs, batch.targets, batch.rate, batch.mixed)
    batch.publish("conflict", torch.zeros(4))
    assert other.signals == {}


def test_signals_and_weight_factors_are_detached_and_loss_terms_are_not(batch: Batch) -> None:
    batch.publish("conflict", leaf(4) * 2)
    batch.publish("bias_logits", leaf(4, 10) * 2)
    batch.reweight("reweight", leaf(4) * 3)
    batch.add_loss("end", leaf(4).sum())
    assert batch.signals["conflict"].tolist() == [2.0] * 4
    assert batch.signals["bias_logits"].shape == (4, 10)
    assert batch.factors["reweight"].tolist() == [3.0] * 4
    contributions = (*batch.signals.values(), *batch.factors.values())
    assert not any(value.requires_grad for value in contributions)
    assert batch.terms["end"].requires_grad


def test_a_signal_has_one_writer(batch: Batch) -> None:
    batch.publish("conflict", torch.zeros(4))
    with pytest.raises(ValueError, match="signal 'conflict' was given twice"):
        batch.publish("conflict", torch.ones(4))
    assert batch.signals["conflict"].tolist() == [0.0] * 4


def test_a_callback_reweights_once(batch: Batch) -> None:
    batch.reweight("reweight", torch.ones(4))
    with pytest.raises(ValueError, match="weight factor 'reweight' was given twice"):
        batch.reweight("reweight", torch.ones(4))


def test_a_signal_and_a_factor_may_share_a_name(batch: Batch) -> None:
    batch.publish("conflict", torch.zeros(4))
    batch.reweight("conflict", torch.ones(4))
    batch.add_loss("conflict", torch.ones(()))
    assert set(batch.signals) == set(batch.factors) == set(batch.terms) == {"conflict"}


def test_a_loss_term_is_added_once(batch: Batch) -> None:
    batch.add_loss("end", torch.ones(()))
    with pytest.raises(ValueError, match="Loss term 'end' was added twice"):
        batch.add_loss("end", torch.ones(()))


@pytest.mark.parametrize("shape", [(), (3,), (1, 4), (0,)])
def test_a_signal_of_other_rows_is_refused_with_its_shape(
    batch: Batch, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError) as error:
        batch.publish("conflict", torch.ones(shape))
    assert str(error.value) == (
        f"The signal 'conflict' has shape {shape}, expected one value for each of the 4 rows."
    )


@pytest.mark.parametrize("shape", [(), (3,), (1, 4), (4, 1), (4, 2)])
def test_a_weight_factor_that_is_not_one_number_a_row_is_refused(
    batch: Batch, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="weight factor 'reweight' has shape"):
        batch.reweight("reweight", torch.ones(shape))
    assert batch.factors == {}


@pytest.mark.parametrize("shape", [(4,), (1,), (0,)])
def test_a_loss_term_that_is_not_a_scalar_is_refused(batch: Batch, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="Loss term 'end' has shape .* expected a scalar"):
        batch.add_loss("end", torch.ones(shape))
    assert batch.terms == {}


def test_appended_rows_keep_what_they_vary_and_count_as_mixed(batch: Batch) -> None:
    batch.targets, batch.rate = torch.tensor([3, 1, 4, 1]), torch.tensor([1.0, 2.0, 3.0, 4.0])
    batch.originals = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 8, 8)
    batch.append(torch.tensor([2, 0]), torch.ones(2, 3, 8, 8))
    assert batch.index.tolist() == [0, 1, 2, 3, 2, 0] and batch.targets.tolist()[4:] == [4, 3]
    assert batch.rate.tolist()[4:] == [3.0, 1.0]
    assert batch.mixed.tolist() == [False] * 4 + [True] * 2
    assert batch.inputs[4:].eq(1).all() and not batch.inputs[:4].any()
    assert batch.originals[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 2, 0]


def test_logits_are_shifted_with_the_graph_and_once_a_name(batch: Batch) -> None:
    with pytest.raises(ValueError, match="'rubi' has shape .*expected None.*from on_features on"):
        batch.shift_logits("rubi", torch.zeros(4, 2))
    batch.logits = torch.zeros(4, 2)
    batch.shift_logits("rubi", leaf(4, 2))
    assert batch.shifts["rubi"].requires_grad
    assert not batch.detached().shifts["rubi"].requires_grad
    with pytest.raises(ValueError, match="shifted twice by 'rubi'"):
        batch.shift_logits("rubi", torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"'end' has shape \(4,\), expected \(4, 2\)"):
        batch.shift_logits("end", torch.zeros(4))


def test_of_rows_that_are_not_known_a_signal_says_what_it_says_of_aligned_ones(
    batch: Batch,
) -> None:
    batch.targets = torch.tensor([0, 1, 2, 3])
    batch.mixed = torch.tensor([True, False, False, False])
    known = torch.tensor([True, True, False, True])
    batch.publish("conflict", torch.tensor([0.9, 0.8, 0.7, 0.6]), known)
    batch.publish("bias_label", torch.tensor([3, 3, 3, 2]), known)
    batch.publish("posterior", torch.ones(4, 2), known)
    torch.testing.assert_close(batch.signals["conflict"], torch.tensor([0.0, 0.8, 0.0, 0.6]))
    assert batch.signals["bias_label"].tolist() == [0, 3, 2, 2]
    assert batch.signals["posterior"].tolist() == [[0, 0], [1, 1], [0, 0], [1, 1]]
    for signal in ("conflict", "bias_label", "posterior"):
        assert batch.known[signal].tolist() == [False, True, False, True]
        assert batch.detached().known[signal].tolist() == [False, True, False, True]


def test_a_signal_is_known_of_all_rows_that_are_not_mixed_if_nobody_says_otherwise(
    batch: Batch,
) -> None:
    batch.mixed = torch.tensor([True, False, False, False])
    batch.publish("bias_logits", torch.ones(4, 3))
    assert batch.known["bias_logits"].tolist() == [False, True, True, True]
    assert batch.signals["bias_logits"].eq(1).all()


@pytest.mark.parametrize(
    ("known", "text"),
    [
        (torch.ones(4), r"\[4\] torch.float32"),
        (torch.ones(3, dtype=torch.bool), r"\[3\] torch.bool"),
        (torch.tensor(True), r"\[\] torch.bool"),
    ],
)
def test_known_rows_are_truth_values_one_a_row(batch: Batch, known: Tensor, text: str) -> None:
    with pytest.raises(ValueError, match=f"known rows of signal 'conflict' are {text}, expected"):
        batch.publish("conflict", torch.zeros(4), known)
    assert batch.signals == {} == batch.known


def test_a_signal_is_never_rewritten(batch: Batch) -> None:
    value, known = torch.full((4,), 0.9), torch.tensor([True, True, True, False])
    batch.publish("conflict", value, known)
    with pytest.raises(ValueError, match="signal 'conflict' was given twice"):
        batch.publish("conflict", value, ~known)
    assert value.eq(0.9).all()  # what was given is not changed either
    assert batch.known["conflict"].tolist() == known.tolist()
    seen = batch.detached()
    batch.publish("noise", value)
    assert "noise" not in seen.signals and "noise" not in seen.known


# Former names, for one release.


class Reader(Callback):
    """Reads the signal by its former name."""

    requires = ("bias_group",)

    def on_features(self, batch: Batch) -> None:
        self.read = batch.signals["bias_group"]


class Writer(Callback):
    """Publishes the signal by its former name."""

    provides = ("bias_group",)

    def on_features(self, batch: Batch) -> None:
        batch.publish("bias_group", batch.targets + 1)


def test_a_former_signal_leads_to_the_new_one_with_a_warning(batch: Batch) -> None:
    former = "The signal 'bias_group' is called 'bias_label' now; use that name."
    with pytest.warns(DeprecationWarning, match=former):
        batch.publish("bias_group", torch.ones(4, dtype=torch.long))
    assert set(batch.signals) == set(batch.known) == {"bias_label"}
    for one in (batch, batch.detached()):
        with pytest.warns(DeprecationWarning, match=former):
            assert one.signals["bias_group"].tolist() == [1] * 4
    with pytest.raises(ValueError, match="signal 'bias_label' was given twice"):
        batch.publish("bias_label", torch.ones(4, dtype=torch.long))
    with pytest.raises(KeyError, match="nothing"):
        batch.signals["nothing"]


@pytest.mark.parametrize("new", ["reader", "writer", "neither"])
def test_callbacks_that_use_a_former_signal_find_each_other(new: str) -> None:
    reader, writer = Reader(), Writer("zebra")  # the name alone would put it after the reader
    if new == "reader":
        reader.requires = ("bias_label",)
    if new == "writer":
        writer.provides = ("bias_label",)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with pytest.warns(DeprecationWarning, match="'bias_group' is called 'bias_label' now"):
        engine = Engine(model, [reader, writer], n_samples=2, n_classes=2)
    one = engine.start_step(torch.arange(2), torch.zeros(2, 4), torch.tensor([0, 1]))
    with pytest.warns(DeprecationWarning, match="'bias_group' is called 'bias_label' now"):
        engine.loss(one, model(one.inputs))
    assert reader.read.tolist() == [1, 2]


def test_a_former_signal_is_found_in_what_a_run_knows() -> None:
    run = Run(2, 2, torch.device("cpu"), 0, lambda name, value: None)
    run.n_values["bias_label"] = 5
    one = Batch(
        0, 0, torch.arange(2), torch.zeros(2, 1), torch.tensor([0, 1]), torch.ones(2),
        torch.zeros(2, dtype=torch.bool), torch.zeros(2, 2),
    )  # fmt: skip
    one.publish("bias_label", torch.tensor([1, 1]))
    keep(run.samples, one)
    with pytest.warns(DeprecationWarning, match="'bias_group' is called 'bias_label' now"):
        assert run.samples.values("bias_group").tolist() == [1, 1]
    with pytest.warns(DeprecationWarning, match="'bias_group' is called 'bias_label' now"):
        assert run.values_of("bias_group") == 5


def test_former_callbacks_lead_to_what_took_their_place() -> None:
    with pytest.warns(DeprecationWarning, match="NoiseFilter is called NoiseScore now"):
        assert callbacks.NoiseFilter is callbacks.NoiseScore
    for name in ("Abstain", "PartScore", "TextureScore"):
        with pytest.raises(AttributeError, match=f"no '{name}' any more.*use that in place of Con"):
            getattr(callbacks, name)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        callbacks.Nothing  # noqa: B018
