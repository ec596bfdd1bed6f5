"""The benchmark of other libraries' methods: what they are given, and which rows are written."""

from __future__ import annotations

import csv
import importlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import peer_steps
import pytest
import results_file
import torch
import torch.nn.functional as F
from peer_task import Task
from run import main
from torch import nn
from torch.utils.data import DataLoader

from online_debias.comparison.summary import read
from online_debias.models import SmallConvNet
from online_debias.runtime import seeds
from online_debias.training.settings import TrainingSettings
from online_debias.training.trainer import Trainer
from tests.conftest import make_images
from tests.own import Plain, Shapes

pytestmark = pytest.mark.slow
SMALL = ["--data", "tests.own.Shapes", "--seeds", "0", "--epochs", "1", "--batch_size", "50"]
WIDTHS = (4, 4, 4)


def plain(task: Task) -> nn.Module:
    """A library's plain training: its own loop over what the task gives it."""
    network: nn.Module = task.network()
    optimizer = task.optimizer(network)
    loader = DataLoader(task.tensors(), task.batch_size, shuffle=True)
    for _ in range(task.epochs):
        for inputs, targets in loader:
            optimizer.zero_grad()
            F.cross_entropy(network(inputs), targets).backward()
            optimizer.step()
    return network


def grouped(task: Task) -> nn.Module:
    """A method that reads the true groups, and trains a first network."""
    assert task.true_groups()
    first = task.network("first")
    optimizer = task.optimizer(first, rows=70, epochs=1)
    for _ in range(2):
        optimizer.step()
    return plain(task)


def test_tensors_are_the_images_that_our_runs_see() -> None:
    images = make_images()
    tensors = Task(images).tensors()
    assert len(tensors) == 240 and tensors.num_classes == 3
    for row in (0, 7, 239):
        (image, target), (ours, our_target) = tensors[row], images[row]
        assert torch.equal(image, ours) and target == our_target == tensors.labels[row]
    assert not any(torch.is_tensor(value) and value.dtype == torch.int64 for value in vars(tensors))


def test_a_plain_loop_over_the_task_ends_where_our_trainer_does() -> None:
    images = make_images()
    torch.manual_seed(seeds.derive(3, "weights", ""))  # as a run makes its model
    ours = Trainer(
        SmallConvNet(3, WIDTHS), images, settings=TrainingSettings(epochs=1, batch_size=20, seed=3)
    )
    again = Trainer(
        SmallConvNet(3, WIDTHS), images, settings=TrainingSettings(epochs=1, batch_size=20, seed=3)
    )
    ours.fit()

    theirs = Task(images, WIDTHS, epochs=1, seed=3, batch_size=20)
    network, tensors = theirs.network(), theirs.tensors()
    optimizer, form = theirs.optimizer(network), torch.channels_last
    again.model.train()
    for index, _, _ in again.loader:  # the batches that our trainer draws
        rows = [tensors[int(row)] for row in index]
        inputs = torch.stack([image for image, _ in rows]).contiguous(memory_format=form)
        optimizer.zero_grad()
        F.cross_entropy(network(inputs), torch.tensor([y for _, y in rows])).backward()
        optimizer.step()
    theirs.check()
    assert theirs.samples == ours.samples_seen and theirs.passes == 1
    for name, value in ours.model.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value)


def test_true_groups_are_the_cells_of_class_and_bias_and_mark_the_oracle() -> None:
    images = make_images()
    with_groups = Task(images)
    assert not with_groups.oracle
    found = with_groups.true_groups()
    assert with_groups.oracle
    assert images.bias is not None
    for (target, bias), rows in found.items():
        members = (images.targets == target) & (images.bias == bias)
        assert rows == members.nonzero().flatten().tolist() != []
    assert sum(map(len, found.values())) == 240
    with pytest.raises(ValueError, match="has no bias labels, which a method with true groups"):
        Task(Plain().train()).true_groups()


def test_a_training_of_another_length_than_its_schedule_is_found() -> None:
    short = Task(make_images(), WIDTHS, epochs=1, batch_size=50)
    optimizer = short.optimizer(short.network())
    for _ in range(4):
        optimizer.step()
    with pytest.raises(RuntimeError, match="took 4 steps, its schedule was for 5"):
        short.check()
    optimizer.step()
    short.check()


def test_rows_have_the_form_of_a_comparison_and_are_made_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results/peers.csv"
    calls: list[tuple[str, int]] = []

    def noted(method: Callable[[Task], nn.Module]) -> Callable[[Task], nn.Module]:
        def run(task: Task) -> nn.Module:
            calls.append((method.__name__, task.seed))
            return method(task)

        return run

    methods = {"Other plain": noted(plain), "Other grouped": noted(grouped)}
    line = [*SMALL, "--widths", "4", "4", "4", "--label", "shapes", "--out", str(out)]
    main([*line, "--methods", "plain"], methods)
    assert calls == [("plain", 0)]
    before = out.read_text()
    assert before.startswith(
        "method,data,ratio,seed,metric,value\nOther plain,shapes,,0,oracle,0.0\n"
    )

    main([*line, "--seeds", "0", "1"], methods)
    assert calls == [("plain", 0), ("grouped", 0), ("plain", 1), ("grouped", 1)]
    assert out.read_text().startswith(before)
    assert f"Other plain on shapes, seed 0: in {out} already" in capsys.readouterr().out
    values = {(row["method"], row["seed"], row["metric"]): float(row["value"]) for row in read(out)}
    assert {key[:2] for key in values} == {(m, seed) for m in methods for seed in "01"}
    grouped_row = {
        name: value for (m, s, name), value in values.items() if (m, s) == ("Other grouped", "0")
    }
    assert grouped_row.pop("settings") == values["Other plain", "0", "settings"]
    assert grouped_row.pop("seconds_training") > 0
    counts = {"oracle": 1, "epochs": 1, "samples": 240 + 70, "training_passes": 2}
    assert {name: grouped_row.pop(name) for name in counts} == counts
    assert grouped_row.keys() == {
        "accuracy",
        *(f"accuracy_{x}" for x in ("unbiased", "worst_group", "aligned", "conflicting")),
    }
    assert grouped_row["accuracy_worst_group"] <= grouped_row["accuracy_unbiased"] <= 1


@pytest.mark.parametrize("changed", [["--epochs", "2"], ["--set", "label=1"]])
def test_rows_of_other_settings_are_not_mixed(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changed: list[str],
) -> None:
    line = [*SMALL, "--out", str(tmp_path / "peers.csv")]
    main(line, {"Other plain": plain})
    with pytest.raises(SystemExit):
        main([*line, *changed], {"Other plain": plain})
    assert (
        "has Other plain on Shapes, seed 0, with other settings; give the data another --label"
        in (capsys.readouterr().err)
    )
    main([*line, *changed, "--label", "changed"], {"Other plain": plain})
    assert {row["data"] for row in read(tmp_path / "peers.csv")} == {"Shapes", "changed"}


def test_a_quick_run_is_shown_and_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [*SMALL, "--epochs", "9", "--quick", "--out", str(tmp_path / "peers.csv")]
    epochs: list[int] = []

    def method(task: Task) -> nn.Module:
        epochs.append(task.epochs)
        return plain(task)

    main(line, {"Other plain": method})
    assert epochs == [1] and not list(tmp_path.iterdir())
    assert "% in the worst group" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (["--set", "labels=1"], "--set labels=1: expected name=value, with one of empty, label of"),
        (["--set", "label"], "--set label: expected name=value"),
        (["--set", "label=7"], "targets holds label 7"),
        (["--data", "BiasedMNIST"], "BiasedMNIST cannot be made ("),
        (["--data", "Shapez"], "there is no class 'Shapez'"),
        (["--methods", "fancy"], "--methods fancy: expected all, or some of plain."),
        (["--epochs", "0"], "epochs is 0, expected a number above 0."),
    ],
)
def test_what_cannot_be_used_is_said_before_training(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changed: list[str],
    said: str,
) -> None:
    with pytest.raises(SystemExit):
        main([*SMALL, *changed, "--out", str(tmp_path / "peers.csv")], {"Other plain": plain})
    assert said in capsys.readouterr().err


def step_script(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Callable[..., Path]:
    """Return what runs a comparison of a step, made small, and says where its results file is."""
    script = importlib.import_module(name)
    small = partial(SmallConvNet, 3, (4, 4, 4)), make_images(200), 50
    monkeypatch.setattr(peer_steps, "what_of", lambda _: small)
    monkeypatch.setattr(results_file, "RESULTS", folder)

    def measured(*line: str) -> Path:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *line])
        script.main()
        return folder / f"{name}.csv"

    return measured


def test_a_step_of_another_trainer_is_measured_beside_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trained: list[int] = []

    class ERM:
        def __init__(
            self, model: nn.Module, trainset: Any, batch_size: int, optimizer: Any, num_epochs: int
        ) -> None:
            self.steps = num_epochs * -(-len(trainset) // batch_size)
            self.optimizer, self.model = optimizer, model

        def train(self) -> None:
            trained.append(self.steps)

    library: Any = ModuleType("spuco_methods")
    library.ERM = ERM
    monkeypatch.setitem(sys.modules, "spuco_methods", library)
    measured = step_script("peer_step_cost", monkeypatch, tmp_path)
    assert not measured("--quick").exists() and trained == [4, 4]
    lines = measured("--rounds", "2").read_text().splitlines()
    assert lines[0] == "setting,loop,milliseconds_per_step,ratio_to_by_hand"
    assert [line.split('",')[1].split(",")[0] for line in lines[1:]] == [
        "by hand", "plain", "SpuCo ERM",
    ]  # fmt: skip
    assert lines[1].endswith(",1.000")


def test_a_step_of_composer_is_measured_beside_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[dict[str, Any]] = []

    class Composer:
        """Trains as long as it is told, as the library does with a model of its kind."""

        def __init__(self, model: Any, **settings: Any) -> None:
            self.model = model
            given.append(settings)

        def fit(self) -> None:
            for _ in range(int(given[-1]["max_duration"].removesuffix("ep"))):
                for batch in given[-1]["train_dataloader"]:
                    self.model.loss(self.model(batch), batch).backward()
                    given[-1]["optimizers"].step()

    library: Any = ModuleType("composer")
    library.ComposerModel, library.Trainer = nn.Module, Composer
    monkeypatch.setitem(sys.modules, "composer", library)
    measured = step_script("composer_step_cost", monkeypatch, tmp_path)
    assert not measured("--quick").exists() and given[0]["max_duration"] == "2ep"
    assert given[0]["device_train_microbatch_size"] == 50
    lines = measured("--rounds", "2").read_text().splitlines()
    assert lines[0] == "setting,loop,milliseconds_per_step,ratio_to_by_hand,ratio_to_plain"
    found = list(csv.DictReader(lines))
    assert [row["loop"] for row in found] == ["by hand", "plain", "Composer, no callbacks"]
    assert found[0]["ratio_to_by_hand"] == found[1]["ratio_to_plain"] == "1.000"
    assert all(float(row["milliseconds_per_step"]) > 0 for row in found)


def test_the_missing_library_is_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "spuco_methods", None)
    with pytest.raises(SystemExit):
        main(SMALL)
    assert "benchmarks/peers/README.md says how to make an environment" in capsys.readouterr().err


def test_the_seed_is_that_of_the_data_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []

    class Seeded(Shapes):
        def __init__(self, rho: float = 0.5, seed: int = 0) -> None:
            made.append({"rho": rho, "seed": seed})
            super().__init__()
            self.rho = rho

    monkeypatch.setattr("tests.own.Seeded", Seeded, raising=False)
    out = tmp_path / "peers.csv"
    line = ["--data", "tests.own.Seeded", "--set", "rho=0.98", "--epochs", "1", "--out", str(out)]
    main([*line, "--seeds", "4"], {"Other plain": plain})
    assert made == [{"rho": 0.98, "seed": 4}]
    assert {row["ratio"] for row in read(out)} == {"0.98"}
