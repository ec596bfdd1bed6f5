"""The command line: what it writes, and one sentence for everything it refuses."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml
from rich.console import Console

from online_debias.cli import demo
from online_debias.cli.main import main
from online_debias.cli.table import show
from online_debias.runtime import checkpoint
from online_debias.settings import parser
from online_debias.settings.messages import classes_of
from tests.own import Shapes

SHAPES = ["--data", "tests.own.Shapes", "--batch_size", "40", "--epochs", "2"]
ROOT = Path(__file__).resolve().parent.parent


def train(*arguments: str) -> int:
    return main(["train", *SHAPES, *arguments])


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def refused(capsys: pytest.CaptureFixture[str], status: int) -> str:
    """Check that the command failed with one line, without a traceback; return the line."""
    captured = capsys.readouterr()
    lines = [x for x in captured.err.splitlines() if x.startswith("online-debias:")]
    assert status == 1, captured.err
    assert len(lines) == 1, captured.err
    assert "Traceback" not in captured.err
    return lines[0]


def test_a_run_folder_holds_every_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--method", "online", "--run", "runs/a", "--epochs", "3") == 0
    run = Path("runs/a")
    names = {path.name.split(".out.")[0] for path in run.iterdir()}
    assert names == {
        "config.yaml", "metrics.csv", "results.json", "last.pt", "best.pt", "model.safetensors",
        "scores.csv", "events",
    }  # fmt: skip
    results = json.loads((run / "results.json").read_text())
    assert set(results) >= {
        "method", "data", "seed", "oracle", "selection", "epochs", "samples",
        "conflicting_samples", "seconds_total", "seconds_training", "training_passes",
        "peak_memory_mb", "accuracy", "accuracy_unbiased", "accuracy_worst_group",
        "accuracy_aligned", "accuracy_conflicting",
        "shortcut", "shortcut_evidence", "device", "versions", "commit",
    }  # fmt: skip
    assert results["method"] == "online" and results["oracle"] is False
    assert results["samples"] == 3 * 240 and results["training_passes"] == 1
    rows = table(run / "metrics.csv")
    assert {row["split"] for row in rows} == {"train", "validation", "test"}
    assert {"train/loss", "weights/ess", "accuracy_unbiased", "shortcut/evidence"} <= {
        row["name"] for row in rows
    }
    last = [r["value"] for r in rows if (r["split"], r["name"]) == ("test", "accuracy_unbiased")]
    assert float(last[-1]) == results["accuracy_unbiased"]
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["method"] == "online" and len(config["callbacks"]) == 6
    assert "online" in capsys.readouterr().out


def test_the_written_settings_give_the_same_run() -> None:
    assert train("--run", "a", "--callbacks.alpha", "0.3", "--seed", "3") == 0
    assert main(["train", "--config", "a/config.yaml", "--run", "b"]) == 0
    assert Path("a/model.safetensors").read_bytes() == Path("b/model.safetensors").read_bytes()
    assert "alpha: 0.3" in Path("b/config.yaml").read_text()


def test_evaluate_prints_what_the_run_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--method", "plain", "--run", "a") == 0
    capsys.readouterr()
    assert main(["evaluate", "a"]) == 0
    results = json.loads(Path("a/results.json").read_text())
    printed = capsys.readouterr().out
    for name in ("accuracy", "accuracy_unbiased", "accuracy_worst_group"):
        assert f"{name:<22}{results[name]:.4f}" in printed
    assert main(["evaluate", "a", "--data", "BiasedDigits"]) == 1
    assert "does not fit 10 classes of BiasedDigits" in refused(capsys, 1)


def test_evaluate_names_bias_values_and_refuses_a_device_that_is_not_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train("--method", "plain", "--run", "a") == 0
    capsys.readouterr()
    assert main(["evaluate", "a"]) == 0
    classes = Shapes().test().classes
    heads = next(line for line in capsys.readouterr().out.splitlines() if classes[0] in line)
    assert heads.split() == list(classes)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "cuda" in refused(capsys, main(["evaluate", "a", "--device", "cuda"]))


def test_the_table_has_accuracy_where_groups_are_not_known_and_cuts_no_number_off(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = {"method": "a-method-with-a-name", "oracle": True, "accuracy": 0.5, "training_passes": 1}
    show([run], Console(width=80))
    assert "accuracy" in (printed := capsys.readouterr().out) and "0.500" in printed
    groups = {f"accuracy_{name}": 0.25 for name in ("worst_group", "aligned", "conflicting")}
    found = {"detect_auroc": 0.125, "detect_average_precision": 0.375, "seconds_training": 12345.0}
    show([{**run, "accuracy_unbiased": 0.75, **groups, **found}], Console(width=80))
    printed = capsys.readouterr().out
    for number in ("0.750", "0.250", "0.125", "0.375", "12345.0"):
        assert number in printed
    assert "0.500" not in printed and "…" not in printed
    assert all(len(line.rstrip()) <= 80 for line in printed.splitlines())


def test_the_help_of_a_run_says_what_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "torch.nn.Linear" not in text and "(required" not in text
    assert "known are SmallConvNet, SimpleConvNet, Torchvision, Imported" in text
    assert f"Methods: {', '.join(parser.recipes())}." in text and "--patience" in text


def test_a_run_killed_before_its_results_were_written_is_completed() -> None:
    assert train("--run", "a") == 0
    results = json.loads(Path("a/results.json").read_text())
    Path("a/results.json").unlink()
    Path("a/model.safetensors").unlink()
    assert main(["train", "--resume", "a"]) == 0
    again = json.loads(Path("a/results.json").read_text())
    costs = {"seconds_total", "peak_memory_mb"}
    assert {k: v for k, v in again.items() if k not in costs} == {
        k: v for k, v in results.items() if k not in costs
    }


def test_a_callback_that_stops_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    Path("stop.yaml").write_text("callbacks: [{class_path: tests.own.Stops}]")
    assert train("--config", "stop.yaml", "--run", "a") == 0
    assert "Training was stopped: enough" in capsys.readouterr().err


def test_a_criterion_is_chosen_by_its_path() -> None:
    gce = "online_debias.functional.losses.gce."
    assert train("--method", "plain", "--run", "a") == 0
    function = ["--criterion", f"{gce}generalized_cross_entropy"]
    assert train("--method", "plain", "--run", "b", *function) == 0
    made = ["--criterion", f"{gce}GeneralizedCrossEntropy", "--criterion.q", "0.7"]
    assert train("--method", "plain", "--run", "c", *made) == 0
    weights = [Path(run, "model.safetensors").read_bytes() for run in "abc"]
    assert weights[0] != weights[1] == weights[2]


def test_criteria_that_a_message_suggests_can_be_chosen() -> None:
    for path in classes_of("criterion"):
        assert callable(parser.parse(["--criterion", path])[0].criterion)


@pytest.mark.parametrize("method", ["lff", "clusterfix", "end", "irene", "group-dro"])
def test_a_method_is_one_word(method: str) -> None:
    assert train("--method", method, "--run", "a") == 0
    results = json.loads(Path("a/results.json").read_text())
    assert results["method"] == method and results["training_passes"] == 1
    assert results["oracle"] is (method in ("end", "irene", "group-dro"))


def test_an_own_callback_is_found_in_the_current_folder() -> None:
    Path("mine.py").write_text(
        "from online_debias import Callback\n"
        "class Halve(Callback):\n"
        "    def on_loss(self, batch):\n"
        "        batch.reweight(self.name, 0.5 + batch.losses.detach())\n"
    )
    Path("own.yaml").write_text("callbacks: [{class_path: mine.Halve}]\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "online_debias", "train", *SHAPES, "--config", "own.yaml"]
    done = subprocess.run([*command, "--run", "a"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(Path("a/results.json").read_text())["method"] == "custom"
    assert "weights/halve" in Path("a/metrics.csv").read_text()


BAD = {
    "method": (["--method", "onlin"], "There is no method 'onlin'; the nearest are online"),
    "callback": (
        ["--config", "callback.yaml"],
        "online_debias.callbacks has no class 'Resampel'; the nearest are Resample",
    ),
    "callback option": (["--config", "option.yaml"], "EnD has no option 'alfa'.* alpha"),
    "callback value": (
        ["--config", "value.yaml"],
        "share is 1.5, expected a number between 0 and 1",
    ),
    "callback type": (["--config", "type.yaml"], "callbacks.share is 'much', expected float"),
    "module": (["--config", "module.yaml"], "there is no module 'mien'; check the import path"),
    "signal": (
        ["--config", "signal.yaml"],
        "'resample' requires the signal 'conflict'.*ShortcutScore",
    ),
    "cycle": (["--config", "cycle.yaml"], "'ring' require each other's signals in a cycle"),
    "tap": (
        ["--config", "tap.yaml"],
        "no tap called 'waist'; the taps are bottleneck, local, parts, shallow",
    ),
    "tap path": (["--config", "path.yaml"], "no module 'stage9' to tap; the nearest are stage"),
    "data": (["--data", "BiasedDigit"], "data: there is no class 'BiasedDigit'; .*BiasedDigits"),
    "data option": (["--data", "BiasedDigits", "--data.rhoo", "1"], "no option 'rhoo'.* rho"),
    "rho": (["--data", "BiasedDigits", "--data.rho", "1.5"], r"rho.*1\.5.*\[0, 1\]"),
    "root": (["--data", "BiasedMNIST"], "BiasedMNIST needs root; give it with --data.root"),
    "missing root": (
        ["--data", "BiasedMNIST", "--data.root", "nowhere"],
        "'nowhere' is not a folder: give the folder",
    ),
    "model": (["--model", "SmalConvNet"], "model: there is no class 'SmalConvNet'.* SmallConvNet"),
    "torchvision model": (
        ["--model", "resnet81"],
        "torchvision has no model 'resnet81'.* resnet18",
    ),
    "empty class": (["--data.empty", "true"], "'ring'.*no images"),
    "label": (["--data.label", "3"], "label 3.* 3 classes"),
    "batch": (["--batch_size", "241"], "batch size 241 is larger than the 240 training images"),
    "epochs": (["--epochs", "few"], "epochs is 'few', expected int"),
    "settings file": (["--config", "nowhere.yaml"], "no settings file nowhere.yaml"),
    "not yaml": (["--config", "broken.yaml"], "broken.yaml is not YAML"),
    "criterion": (["--criterion", "math.pi"], "criterion must be a function.*GeneralizedCrossEnt"),
    "criterion name": (["--criterion", "gce"], "no class 'gce'; there are .*cross_entropy"),
    "unknown key": (["--epoch", "3"], "epoch"),
    "device": (["--device", "cuda:99"], "device is 'cuda:99', but there is none here; choose cpu"),
    "precision": (["--precision", "half"], "precision is 'half', expected 'float32' or 'bfloat16'"),
    "resume": (["--resume", "nowhere"], "no run to resume in nowhere"),
    "folder in a file": (["--run", "broken.yaml/run"], "broken.yaml"),
}
FILES = {
    "callback": "callbacks: [{class_path: online_debias.callbacks.Resampel}]",
    "option": "callbacks: [{class_path: online_debias.callbacks.EnD, init_args: {alfa: 1}}]",
    "value": "callbacks: [{class_path: online_debias.callbacks.Resample, init_args: {share: 1.5}}]",
    "type": "callbacks: [{class_path: online_debias.callbacks.Resample, init_args: {share: much}}]",
    "module": "callbacks: [{class_path: mien.Callback}]",
    "signal": "callbacks: [{class_path: online_debias.callbacks.Resample}]",
    "cycle": "callbacks: [{class_path: tests.own.Ring}]",
    "tap": "callbacks: [{class_path: ConflictScore, init_args: {tap: waist}}]",
    "path": "taps: {shallow: stage9}",
    "broken": "callbacks: [",
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    for name, content in FILES.items():
        Path(f"{name}.yaml").write_text(content)
    arguments, message = BAD[case]
    status = train("--run", "out", *arguments)
    line = refused(capsys, status)
    assert re.search(message, line), line
    assert not Path("out").exists() and not Path("runs").exists()


def test_a_folder_that_holds_a_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/plain").mkdir(parents=True)
    Path("runs/plain/notes.txt").write_text("mine")
    status = train("--method", "plain")
    assert "runs/plain holds another run" in refused(capsys, status)
    assert [path.name for path in Path("runs/plain").iterdir()] == ["notes.txt"]


def test_a_nan_names_step_and_callback_and_keeps_the_good_checkpoint(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("nan.yaml").write_text("callbacks: [{class_path: tests.own.Poison, init_args: {step: 9}}]")
    status = train("--config", "nan.yaml", "--run", "a", "--epochs", "3")
    line = refused(capsys, status)
    assert "in step 9" in line and "'poison'" in line
    kept = checkpoint.load(Path("a/last.pt"))
    assert kept["engine"]["progress"]["step"] == 6
    assert all(bool(x.isfinite().all()) for x in kept["model"].values())
    assert not Path("a/results.json").exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def pickled(path: Path) -> None:
    torch.save({"format": 1, "engine": subprocess.Popen}, path)


def other_recipe(path: Path) -> None:
    path.with_name("config.yaml").write_text(
        path.with_name("config.yaml").read_text().replace("method: online", "method: plain")
    )
    config = yaml.safe_load(path.with_name("config.yaml").read_text())
    path.with_name("config.yaml").write_text(yaml.safe_dump({**config, "callbacks": []}))


def foreign(path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut, "last.pt is cut short or not a checkpoint"),
        (pickled, "last.pt holds pickled objects, which are not loaded"),
        (other_recipe, "written with callbacks .*shortcut_score.*this run has none"),
        (foreign, "last.pt is not a checkpoint of format 4"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    spoil: Callable[[Path], None], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    assert train("--run", "a", "--epochs", "1") == 0
    capsys.readouterr()
    spoil(Path("a/last.pt"))
    before = Path("a/last.pt").read_bytes()
    status = main(["train", "--resume", "a"])
    line = refused(capsys, status)
    assert re.search(message, line), line
    assert Path("a/last.pt").read_bytes() == before


def run_apart(
    arguments: Sequence[str], limit: int | None = None
) -> subprocess.CompletedProcess[str]:
    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever started the tests may ignore it
        if limit is not None:  # a file that grows beyond it fails as on a full disk
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "online_debias", *arguments],
        env=environment, capture_output=True, text=True, preexec_fn=prepare, check=False,
    )  # fmt: skip


def test_a_full_disk_is_one_sentence_and_leaves_nothing() -> None:
    done = run_apart(["train", *SHAPES, "--method", "plain", "--run", "a"], limit=20_000)
    assert done.returncode == 1, done.stderr
    assert "Cannot write a/last.pt" in done.stderr and "Traceback" not in done.stderr
    assert not Path("a").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_resumes_to_the_same_bits(number: signal.Signals) -> None:
    recipe = yaml.safe_load((ROOT / "online_debias/recipes/online.yaml").read_text())
    stop = {"class_path": "tests.own.Signal", "init_args": {"step": 10, "number": int(number)}}
    for name in ("whole", "stopped"):
        own = {**stop, "init_args": {**stop["init_args"], "once": f"{name}.flag"}}
        settings = {"callbacks": [*recipe["callbacks"], own], "save_every": 4, "epochs": 3}
        Path(f"{name}.yaml").write_text(yaml.safe_dump(settings))
    Path("whole.flag").touch()
    command = ["train", *SHAPES[:4], "--config"]
    assert run_apart([*command, "whole.yaml", "--run", "whole"]).returncode == 0
    done = run_apart([*command, "stopped.yaml", "--run", "stopped"])
    assert done.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL), done.stderr
    assert "Traceback" not in done.stderr
    kept = checkpoint.load(Path("stopped/last.pt"))["engine"]["progress"]
    place = {"step": 8, "epoch": 1, "open": True}
    assert kept == {**place, "seed": 0, "stop_reason": None}
    assert not Path("stopped/results.json").exists()
    done = run_apart(["train", "--resume", "stopped"])
    assert done.returncode == 0, done.stderr
    whole = safetensors.torch.load_file("whole/model.safetensors")
    stopped = safetensors.torch.load_file("stopped/model.safetensors")
    assert all(torch.equal(value, stopped[name]) for name, value in whole.items())
    metrics = [
        [row for row in table(Path(name, "metrics.csv")) if not row["name"].startswith("time/")]
        for name in ("whole", "stopped")
    ]
    assert len(metrics[0]) == len(metrics[1])


def test_a_run_that_is_over_and_resumed_writes_no_row_twice() -> None:
    assert main(["train", *SHAPES, "--method", "plain", "--run", "over"]) == 0
    before = Path("over/metrics.csv").read_bytes()
    assert main(["train", "--resume", "over"]) == 0
    assert Path("over/metrics.csv").read_bytes() == before
    found = json.loads(Path("over/results.json").read_text())
    assert found["seconds_total"] > found["seconds_training"] > 0


def test_the_demo_writes_three_runs_and_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def small(arguments: Sequence[str]) -> dict[str, object]:
        settings = dict(zip(arguments[::2], arguments[1::2], strict=True))
        settings |= {"--data": "tests.own.Shapes", "--batch_size": "40"}
        del settings["--data.seed"]
        return original([word for pair in settings.items() for word in pair])

    original = demo.train
    monkeypatch.setattr(demo, "train", small)
    for folder in ("runs/demo", "runs/demo-2"):
        assert main(["demo", "--epochs", "2"]) == 0
        rows = table(Path(folder, "results.csv"))
        assert list(rows[0]) == ["method", "data", "ratio", "seed", "metric", "value"]
        assert [row["method"] for row in rows if row["metric"] == "accuracy_unbiased"] == [
            "plain", "two-step", "online",
        ]  # fmt: skip
        assert all(Path(folder, name, "results.json").is_file() for name in demo.METHODS)
    assert "tensorboard --logdir runs/demo-2" in capsys.readouterr().out


def test_data_list_and_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list"]) == 0
    assert "BiasedDigits" in capsys.readouterr().out
    assert main(["data", "check", "BiasedDigits"]) == 0
    assert "10,000 images 3x28x28, 10 classes, 199 bias-conf" in capsys.readouterr().out
    assert "no data set 'BiasedMINST'" in refused(capsys, main(["data", "check", "BiasedMINST"]))
    assert "needs --root" in refused(capsys, main(["data", "check", "BiasedMNIST"]))
    status = main(["data", "check", "BiasedMNIST", "--root", "nowhere"])
    assert "train-images-idx3-ubyte" in capsys.readouterr().err and status == 1


def test_help_needs_no_torch() -> None:
    code = "import sys; from online_debias.cli.main import main; main(['--help'])"
    probe = f"import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); {code}"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "False"


def test_a_data_set_has_its_own_defaults() -> None:
    """Not those of the default one, where arguments have the same name."""
    for settings, _ in (
        parser.parse(["--data", "tests.own.Aligned"]),
        parser.resolve({"data": {"class_path": "tests.own.Aligned"}}),
    ):
        assert settings.data.rho == 0.7
    assert parser.parse([])[0].data.rho == 0.98


def test_a_list_of_callbacks_stands_in_place_of_the_recipes(tmp_path: Path) -> None:
    """What an entry does not say is the class's default, not the recipe's at that place."""
    entry = {"class_path": "online_debias.callbacks.Augment"}
    (tmp_path / "own.yaml").write_text(f"method: online\ncallbacks: [{json.dumps(entry)}]\n")
    for settings, _ in (
        parser.parse(["--config", str(tmp_path / "own.yaml")]),
        parser.parse(["--method", "online", "--callbacks", json.dumps([entry])]),
        parser.resolve({"method": "online", "callbacks": [entry]}),
    ):
        assert settings.method == "online"
        assert [callback.least_rate for callback in settings.callbacks] == [0.0]
    recipe = parser.parse(["--method", "online"])[0].callbacks
    assert len(recipe) == 6 and recipe[0].least_rate == 2.0
    longer = parser.parse(["--method", "online", "--callbacks+", json.dumps(entry)])[0].callbacks
    assert [callback.least_rate for callback in (longer[0], longer[-1])] == [2.0, 0.0]
