"""The monitors, driven by an engine on a tiny model."""

from __future__ import annotations

import csv
import io
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn

from online_debias.callbacks.monitors import Detection, MetricsCSV, Progress, progress
from online_debias.data.images import Images
from online_debias.engine import Batch, Callback, Engine, Monitor
from online_debias.functional.metrics import Report

torch.set_num_threads(1)
N, BATCH = 40, 10


class Toy(Callback):
    """Publishes scores that change with the epoch, marks a row as mixed, weighs by the score."""

    provides = ("conflict", "bias_label")

    def on_batch(self, batch: Batch) -> None:
        batch.mixed = torch.arange(len(batch)) == 0

    def on_features(self, batch: Batch) -> None:
        batch.publish("conflict", torch.frac(batch.index * 0.37 + 0.11 * batch.epoch))
        batch.publish("bias_label", batch.index % 3)

    def on_loss(self, batch: Batch) -> None:
        batch.reweight(self.name, 1 + batch.signals["conflict"])
        batch.add_loss(self.name, 0 * batch.losses.mean())


class Spy(Monitor):
    """Keeps what passes by."""

    def __init__(self) -> None:
        self.steps: list[tuple[Batch, Tensor | None]] = []
        self.scalars: list[Any] = []

    def on_step_end(self, batch: Batch, bias: Tensor | None, run: Any) -> None:
        self.steps.append((batch, bias))

    def on_scalars(self, scalars: Any, run: Any) -> None:
        self.scalars += scalars

    def values(self, name: str) -> list[float]:
        return [scalar.value for scalar in self.scalars if scalar.name == name]


class Fit:
    """A training loop around an engine; the model never learns, so that numbers are known."""

    def __init__(
        self, *monitors: Monitor, callbacks: Sequence[Callback] | None = None, bias: bool = True
    ) -> None:
        stream = torch.Generator().manual_seed(0)
        self.images = images()
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
        for parameter in self.model.parameters():
            nn.init.normal_(parameter, generator=stream)
        self.engine = Engine(
            self.model,
            [Toy()] if callbacks is None else callbacks,
            monitors,
            n_samples=N,
            n_classes=2,
            bias=self.images.bias if bias else None,
            log_every=3,
        )

    def epochs(self, count: int, evaluate: bool = True) -> Fit:
        for _ in range(count):
            for index in self.engine.sampling.indices().split(BATCH):
                self.step(index)
            self.engine.end_epoch()
            if evaluate:
                self.evaluate("test")
                self.evaluate("validation")
        return self

    def step(self, index: Tensor) -> None:
        inputs = Images.to_float(self.images.images[index])
        batch = self.engine.start_step(index, inputs, self.images.targets[index])
        self.engine.loss(batch, self.model(batch.inputs))
        self.engine.end_step(batch)

    def evaluate(self, split: str) -> None:
        run = self.engine.run
        metrics = {"accuracy": 0.9, "accuracy_unbiased": 0.5, "accuracy_worst_group": 0.1}
        groups = {(0, 0): (0.75, 4), (1, 0): (0.25, 4)}
        self.engine.watch("on_evaluate", Report(split, run.step, run.epoch, metrics, groups), run)

    def end(self) -> None:
        self.engine.end_fit()


def images() -> Images:
    targets = torch.arange(N) % 2
    bias = torch.where(torch.arange(N) % 5 == 0, 1 - targets, targets)
    pixels = (torch.arange(N).view(N, 1, 1, 1) * torch.ones(N, 3, 8, 8)).byte()
    return Images(pixels, targets, bias, ("cat", "dog"))


def averages(steps: Sequence[tuple[Batch, Tensor | None]]) -> dict[int, float]:
    """The moving averages, sample by sample."""
    memory: dict[int, float] = {}
    for batch, _ in steps:
        signal = batch.signals["conflict"].tolist()
        kept = (~batch.mixed).tolist()
        for i, score, keep in zip(batch.index.tolist(), signal, kept, strict=True):
            if keep:
                memory[i] = 0.7 * memory[i] + 0.3 * score if i in memory else score
    return memory


# Detection


def test_detection_measures_the_moving_averages_of_unmixed_rows():
    monitor, spy = Detection(), Spy()
    fit = Fit(monitor, spy).epochs(2)
    memory = averages(spy.steps)
    assert 0 < len(memory) < N  # rows that were mixed in both epochs were never seen
    expected = torch.tensor([memory.get(i, math.nan) for i in range(N)])
    samples = fit.engine.run.samples
    torch.testing.assert_close(samples.values("conflict"), expected, equal_nan=True)
    truth = [bool(fit.images.conflicting[i]) for i in memory]
    found = list(memory.values())
    auroc, precision = roc_auc_score(truth, found), average_precision_score(truth, found)
    assert spy.values("detect/auroc")[-1] == pytest.approx(auroc)
    assert spy.values("detect/average_precision")[-1] == pytest.approx(precision)
    share = sum(score > 0.5 for score in found) / len(found)
    assert spy.values("detect/share_flagged")[-1] == pytest.approx(share)
    assert monitor.conflicting.tolist() == [
        i in memory and bool(fit.images.conflicting[i]) for i in range(N)
    ]
    labels = samples.values("bias_label").nan_to_num(-1).tolist()
    assert labels == [i % 3 if i in memory else -1 for i in range(N)]


def test_detection_records_pseudo_group_accuracies_of_the_epoch():
    spy = Spy()
    Fit(Detection(), spy).epochs(2)
    for name, side in (("aligned", False), ("conflicting", True)):
        right = [
            bool(batch.logits[row].argmax() == batch.targets[row])
            for batch, _ in spy.steps[4:]
            for row in range(1, BATCH)
            if (float(batch.signals["conflict"][row]) > 0.5) is side
        ]
        recorded = spy.values(f"train/accuracy_pseudo_{name}")
        assert len(recorded) == 2
        assert recorded[-1] == pytest.approx(sum(right) / len(right))


def test_detection_records_the_share_of_loss_weight_on_conflicting_rows():
    spy = Spy()
    Fit(Detection(), spy).epochs(1)
    shares = [
        float(batch.weights[bias != batch.targets].sum() / batch.weights.sum())
        for batch, bias in spy.steps
    ]
    recorded = spy.values("weights/share_conflicting")
    assert recorded == pytest.approx([sum(shares[:3]) / 3, shares[3]])


def test_detection_without_annotations_records_what_needs_none():
    monitor, spy = Detection(), Spy()
    Fit(monitor, spy, bias=False).epochs(1)
    names = {scalar.name for scalar in spy.scalars}
    assert {"detect/share_flagged", "train/accuracy_pseudo_aligned"} <= names
    assert not names & {"detect/auroc", "weights/share_conflicting"}
    assert monitor.conflicting is None


def test_detection_skips_a_side_without_rows():
    class Flat(Toy):
        def on_features(self, batch: Batch) -> None:
            batch.publish("conflict", torch.zeros(len(batch)))

    spy = Spy()
    Fit(Detection(), spy, callbacks=[Flat()]).epochs(1)
    names = {scalar.name for scalar in spy.scalars}
    assert "train/accuracy_pseudo_aligned" in names
    assert "train/accuracy_pseudo_conflicting" not in names
    assert spy.values("detect/share_flagged") == [0.0]


def test_detection_measures_nothing_where_no_score_is_published():
    spy = Spy()
    fit = Fit(Detection(), spy, callbacks=[]).epochs(1)
    fit.end()
    assert not {"conflict", "bias_label", "noise"} & {*fit.engine.state_dict()["samples"]["scores"]}
    assert not any(s.name.startswith("detect/") or "pseudo" in s.name for s in spy.scalars)


@pytest.mark.parametrize("callbacks", [[], None], ids=["no score", "scores"])
def test_losses_of_unmixed_rows_are_remembered_and_all_rows_counted(callbacks):
    spy = Spy()
    samples = Fit(spy, callbacks=callbacks).epochs(2).engine.run.samples
    losses, drawn = [math.nan] * N, [0] * N
    for batch, _ in spy.steps:
        for row, index in enumerate(batch.index.tolist()):
            drawn[index] += 1
            if not batch.mixed[row]:
                losses[index] = -float(batch.logits[row].log_softmax(0)[batch.targets[row]])
    torch.testing.assert_close(samples.losses, torch.tensor(losses), equal_nan=True)
    assert samples.losses.isnan().any() == (callbacks is None)
    assert samples.drawn.tolist() == drawn == [2] * N


class Noisy(Toy):
    """Says also of every row how likely its label is wrong."""

    provides = ("conflict", "bias_label", "noise")

    def on_features(self, batch: Batch) -> None:
        super().on_features(batch)
        batch.publish("noise", torch.frac(batch.index * 0.613 + 0.2 * batch.epoch))


def test_what_noise_flags_counts_as_aligned():
    spy = Spy()
    fit = Fit(Detection(), spy, callbacks=[Noisy()]).epochs(2)
    samples = fit.engine.run.samples
    flagged = samples.values("noise") > 0.5
    expected = torch.where(flagged, 0.0, samples.values("conflict"))
    known = expected[~expected.isnan()]
    assert 0 < int(flagged.sum()) < N and (samples.values("conflict")[flagged] > 0.5).any()
    assert spy.values("detect/share_flagged")[-1] == pytest.approx((known > 0.5).float().mean())
    truth = fit.images.conflicting[~expected.isnan()]
    assert spy.values("detect/auroc")[-1] == pytest.approx(roc_auc_score(truth, known))


def test_detection_begins_a_new_fit_with_nothing():
    monitor = Detection()
    Fit(monitor).epochs(2)
    seen = Fit(monitor).epochs(1).engine.run.samples.values("conflict")
    fresh = Detection()
    Fit(fresh).epochs(1)
    assert seen.isnan().any() and torch.equal(monitor.conflicting, fresh.conflicting)


def test_detection_resumed_in_the_middle_of_an_epoch_reports_the_same(tmp_path):
    spy, resumed = Spy(), Spy()
    whole = Fit(Detection(), spy, callbacks=[Noisy()]).epochs(1)
    order = whole.engine.sampling.indices().split(BATCH)
    for index in order[:2]:
        whole.step(index)
    torch.save(whole.engine.state_dict(), tmp_path / "state.pt")
    rest = Fit(Detection(), resumed, callbacks=[Noisy()])
    rest.engine.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for fit in (whole, rest):
        for index in order[2:]:
            fit.step(index)
        fit.engine.end_epoch()
    names = ["detect/auroc", "detect/average_precision", "detect/share_flagged"]
    names += ["train/accuracy_pseudo_aligned", "train/accuracy_pseudo_conflicting"]
    for name in names:
        assert len(resumed.values(name)) == 1
        assert resumed.values(name)[0] == spy.values(name)[-1], name
    ours, theirs = (fit.engine.state_dict()["samples"] for fit in (whole, rest))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(*(fit.engine.monitors[0].conflicting for fit in (whole, rest)))


def test_the_memory_of_other_data_is_refused():
    whole = Fit(Detection()).epochs(1)
    other = Engine(whole.model, [Toy()], [Detection()], n_samples=N + 1, n_classes=2)
    with pytest.raises(
        ValueError, match="is of 40 training samples.* has 41; resume with the same"
    ):
        other.load_state_dict(whole.engine.state_dict())


# MetricsCSV


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_holds_every_scalar_and_evaluation(tmp_path):
    spy = Spy()
    Fit(MetricsCSV(tmp_path / "new" / "metrics.csv"), spy).epochs(2).end()
    written = rows(tmp_path / "new" / "metrics.csv")
    train = [row for row in written if row["split"] == "train"]
    assert [(int(r["step"]), int(r["epoch"]), r["name"], float(r["value"])) for r in train] == [
        (s.step, s.epoch, s.name, s.value) for s in spy.scalars
    ]
    test = {(r["step"], r["name"]): r["value"] for r in written if r["split"] == "test"}
    assert test["8", "accuracy_unbiased"] == "0.5"
    assert test["4", "group/1_0"] == "0.25"
    assert any(row["split"] == "validation" for row in written)


def test_csv_of_a_resumed_run_goes_back_to_the_checkpoint(tmp_path):
    path = tmp_path / "metrics.csv"
    fit = Fit(MetricsCSV(path)).epochs(1)
    fit.step(torch.arange(BATCH))  # a checkpoint in the middle of an epoch and of an interval
    state = fit.engine.state_dict()
    at_checkpoint = path.read_bytes()
    fit.epochs(1)
    assert len(path.read_bytes()) > len(at_checkpoint)
    again = Fit(MetricsCSV(path))
    again.engine.load_state_dict(state)
    again.step(torch.arange(BATCH))
    assert path.read_bytes() == at_checkpoint
    again.epochs(1)
    again.end()
    assert path.read_bytes().startswith(at_checkpoint)
    names = [(r["step"], r["split"], r["name"]) for r in rows(path)]
    assert len(names) == len(set(names))


def test_csv_resumed_without_its_state_drops_later_steps_and_a_torn_line(tmp_path):
    path = tmp_path / "metrics.csv"
    head = "step,epoch,split,name,value\n3,0,train,train/loss,0.5\n4,1,test,accuracy,0.25\n"
    path.write_text(head + "5,1,train,train/loss,0.125\n4,1,train,train/lo")
    fit = Fit(MetricsCSV(path))
    fit.engine.run.step = 4
    fit.step(torch.arange(BATCH))
    assert path.read_text() == head


def test_csv_of_a_new_run_begins_anew(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,epoch,split,name,value\n0,0,train,old,1.0\n")
    Fit(MetricsCSV(path)).epochs(1).end()
    assert all(row["name"] != "old" for row in rows(path))


def test_csv_on_disk_ends_in_a_whole_line_at_all_times(tmp_path):
    path = tmp_path / "metrics.csv"
    fit = Fit(MetricsCSV(path))
    for index in fit.engine.sampling.indices().split(BATCH):
        fit.step(index)
        assert path.read_bytes().endswith(b"\n")
    fit.engine.watch("on_exception", fit.engine.run, KeyboardInterrupt())
    assert any(row["name"] == "train/loss" for row in rows(path))


def test_csv_that_cannot_be_written_is_switched_off_with_a_warning(tmp_path):
    (tmp_path / "file").touch()
    fit = Fit(MetricsCSV(tmp_path / "file" / "metrics.csv"))
    with pytest.warns(RuntimeWarning, match="MetricsCSV failed in on_fit_start.*(OS|Exists|Dir)"):
        fit.epochs(1)
    assert fit.engine.monitors == []


# Progress


def console(terminal: bool) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=terminal, width=100, _environ={}), out


def test_progress_prints_one_line_an_epoch_without_a_terminal():
    target, out = console(terminal=False)
    detection = Detection()
    Fit(detection, Progress(2, 4, "plain", target)).epochs(2).end()
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("plain  epoch 1/2  loss ")
    assert "  unbiased 0.500  worst 0.100  AUROC " in lines[1]
    assert lines[1].endswith(" s") and "nan" not in out.getvalue()
    assert "accuracy" not in lines[1] and "\x1b" not in out.getvalue()


def test_progress_lines_show_only_what_the_epoch_measured():
    target, out = console(terminal=False)
    fit = Fit(Progress(2, 4, console=target), callbacks=[]).epochs(1).epochs(1, evaluate=False)
    fit.end()
    first, second = out.getvalue().splitlines()
    assert "unbiased" in first and "AUROC" not in first
    assert "unbiased" not in second and "loss" in second


def test_progress_draws_a_bar_and_a_table_on_a_terminal():
    target, out = console(terminal=True)
    detection = Detection()
    Fit(detection, Progress(1, 4, "online", target)).epochs(1).end()
    last = out.getvalue().rsplit("online  epoch 1/1", 1)[1]
    for shown in ("4/4", "it/s", "loss", "unbiased", "worst", "AUROC", "AP", "flagged", "ESS"):
        assert shown in last
    assert "0.500" in last and "ms/step" in last and "nan" not in last


class Verdict(Toy):
    """Also records how sure it is that there is a shortcut."""

    def on_epoch_end(self, run: Any) -> None:
        run.record("shortcut/evidence", 0.876)


def test_progress_shows_the_evidence_of_a_shortcut_to_two_digits():
    for terminal in (False, True):
        target, out = console(terminal)
        Fit(Progress(1, 4, console=target), callbacks=[Verdict()]).epochs(1).end()
        assert "shortcut" in out.getvalue() and "0.88" in out.getvalue()
        assert "0.876" not in out.getvalue()


def test_progress_with_all_that_can_be_measured_fits_80_columns():
    out = io.StringIO()
    target = Console(file=out, force_terminal=True, width=80, _environ={})
    monitor = Progress(1, 4, console=target)
    fit = Fit(monitor, callbacks=[Verdict()])
    fit.step(torch.arange(BATCH))
    monitor.values = dict.fromkeys(progress.NAMES, 0.5)
    fit.end()
    shown = out.getvalue().rsplit("epoch 1/1", 1)[1]
    names = set(progress.NAMES.values()) - {"accuracy"}  # unbiased stands in its place
    assert not [name for name in names if name not in shown] and "…" not in shown


def test_progress_gives_the_cursor_back_in_every_ending():
    target, out = console(terminal=True)
    fit = Fit(Progress(2, 4, console=target)).epochs(1)
    fit.engine.watch("on_exception", fit.engine.run, KeyboardInterrupt())
    assert out.getvalue().endswith("\x1b[?25h")
    fit.engine.watch("on_fit_end", fit.engine.run)
    Fit(Progress(1, 4, console=target)).epochs(1).end()  # another run in the same process
    assert out.getvalue().count("\x1b[?25l") == out.getvalue().count("\x1b[?25h") == 2
    assert out.getvalue().endswith("\x1b[?25h")


def test_progress_gives_the_cursor_back_to_a_loop_that_never_ends_the_fit():
    code = (
        "from rich.console import Console\n"
        "from online_debias.callbacks.monitors import Progress\n"
        "from online_debias.engine.run import Run\n"
        "import torch\n"
        "run = Run(1, 2, torch.device('cpu'), 0, print)\n"
        "Progress(1, 1, console=Console(force_terminal=True)).on_fit_start(run)\n"
        "raise SystemExit(3)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"TERM": "xterm"},
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 3, done.stderr
    assert done.stdout.rfind("\x1b[?25h") > done.stdout.rfind("\x1b[?25l") >= 0


def test_progress_of_a_resumed_run_starts_where_it_left_off():
    target, out = console(terminal=True)
    monitor = Progress(2, 4, console=target)
    run = Fit(monitor).engine.run
    run.step, run.epoch = 4, 1
    monitor.on_fit_start(run)
    monitor.on_fit_end(run)
    assert "epoch 2/2" in out.getvalue() and "4/8" in out.getvalue()


def test_progress_draws_nothing_in_place_on_a_dumb_terminal():
    out = io.StringIO()
    target = Console(file=out, force_terminal=True, _environ={"TERM": "dumb"})
    Fit(Progress(1, 4, console=target)).epochs(1).end()
    assert len(out.getvalue().splitlines()) == 1


def test_callbacks_come_without_tensorboard_and_rich():
    code = (
        "import sys, online_debias.callbacks\n"
        "print({'rich', 'tensorboard', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.stdout == "set()\n", done.stderr
