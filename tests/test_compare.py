"""A comparison: every run once, whatever kills it, and one sentence for what it refuses."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from online_debias.cli.compare import _train
from online_debias.cli.main import main
from online_debias.comparison.grid import Comparison, planned_runs
from online_debias.comparison.processes import run_all
from online_debias.errors import ConfigError
from online_debias.training.epoch_selection import select
from tests.test_cli import ROOT, here, refused, table  # noqa: F401  (a fixture)

SHAPES = {"class_path": "tests.own.Shapes", "name": "shapes"}
SMALL = {"epochs": 2, "batch_size": 40, "save_every": 2}


def write(**changed: Any) -> None:
    """A comparison of two methods with two seeds, one process at a time."""
    given = {"methods": ["plain", "online-minimal"], "data": [SHAPES], "seeds": [0, 1]}
    text = yaml.safe_dump({**given, "settings": SMALL, "processes": 1, "run": "out", **changed})
    Path("own.yaml").write_text(text)


def start() -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "online_debias", "compare", "--config", "own.yaml"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


def accuracies() -> list[list[str]]:
    rows = table(Path("out/results.csv"))
    return [list(row.values()) for row in rows if row["metric"].startswith(("acc", "det"))]


def at_work() -> list[int]:
    """Processes of this comparison that are still there."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink() == Path.cwd():
                found.append(int(entry.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def test_a_comparison_killed_twice_ends_with_the_same_numbers() -> None:
    write()
    for n_checkpoints in (1, 3):  # killed in the middle of the first and of the third run
        process = start()
        deadline = time.monotonic() + 120
        while len(list(Path("out").rglob("last.pt"))) < n_checkpoints:
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        while at_work():  # its runs end with it
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finished = {path: path.stat().st_mtime for path in Path("out").rglob("results.json")}
    assert 0 < len(finished) < 4
    process = start()
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert f"4 runs, {len(finished)} of them finished" in out
    assert all(path.stat().st_mtime == then for path, then in finished.items())
    killed = accuracies()
    assert len({tuple(row[:4]) for row in killed}) == 4

    text = Path("out/table.md").read_text()
    assert "online-minimal" in text and "last epoch" in text
    assert r"\toprule" in Path("out/table.tex").read_text()
    names = {path.name for path in Path("out/plots").iterdir()}
    assert names == {"shapes-cost.png", "shapes-learning.png", "shapes-detection.png"}

    Path("out").rename("killed")
    assert start().communicate()[1] == ""
    assert accuracies() == killed

    # Other settings are not mixed with what is there, and neither is another version.
    write(settings={**SMALL, "epochs": 3})
    process = start()
    assert "holds a run of other settings (epochs was 2, is 3)" in process.communicate()[1]
    write()
    results = Path("out/shapes/plain/0/results.json")
    results.write_text(results.read_text().replace('"online-debias": "', '"online-debias": "9.'))
    process = start()
    assert "was written by version 9.0.1.0, this is 0.1.0" in process.communicate()[1]


def test_a_failed_run_leaves_the_others_alone(capfd: pytest.CaptureFixture[str]) -> None:
    poison = {
        "name": "poison",
        "method": "plain",
        "callbacks": [{"class_path": "tests.own.Poison"}],
    }
    write(methods=["plain", poison], seeds=[0], processes=2)
    assert main(["compare", "--config", "own.yaml"]) == 1
    said = capfd.readouterr().out
    assert "poison on shapes, seed 0 failed: " in said and "NaN" in said.replace("nan", "NaN")
    rows = table(Path("out/results.csv"))
    assert {row["method"] for row in rows} == {"plain"}


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown method": (
        {"methods": ["plain", "onlin"]},
        "'onlin' on shapes: There is no method 'onlin'; the nearest are online",
    ),
    "two of one name": (
        {"methods": ["plain", {"method": "plain", "epochs": 3}]},
        "methods has two entries with the name 'plain'; give one another `name`",
    ),
    "no methods": ({"methods": []}, "methods is empty"),
    "no method": ({"methods": [{"name": "a"}]}, "needs a 'method'"),
    "folder name": ({"methods": [{"name": "a/b", "method": "plain"}]}, "cannot name a folder"),
    "unknown data": ({"data": ["BiasedDigit"]}, "no class 'BiasedDigit'; the nearest .*BiasedDig"),
    "ratios": ({"ratios": [0.9]}, "Shapes has no `rho` to set"),
    "seeds": ({"seeds": [1, 1]}, "seeds has 1 twice"),
    "no seeds": ({"seeds": []}, "seeds is empty"),
    "option": (
        {"methods": [{"name": "a", "method": "two-step", "pipeline": {"init_args": {"Q": 1}}}]},
        "'a' on shapes: pipeline: TwoStep has no option 'Q'",
    ),
    "change of nothing": (
        {"methods": [{"name": "a", "method": "online", "change": {"Resampel": None}}]},
        "'a' on shapes: change leaves out Resampel, which online has not; the nearest are Resample",
    ),
    "change of a method without callbacks": (
        {"methods": [{"name": "a", "method": "plain", "change": {"EnD": None}}]},
        "change leaves out EnD, which plain has not; there are none",
    ),
    "change of the unknown": (
        {"methods": [{"name": "a", "method": "online", "change": {"Resampel": {"share": 0.5}}}]},
        "'a' on shapes: .*'Resampel'.*nearest are .*Resample",
    ),
    "change and list": (
        {"methods": [{"name": "a", "method": "online", "callbacks": [], "change": {"EnD": None}}]},
        "callbacks and a change of them are given",
    ),
    "change by a number": (
        {"methods": [{"name": "a", "method": "online", "change": {"EnD": 3}}]},
        "change: EnD is 3, expected `argument: value` or null",
    ),
    "change of no kind": (
        {"methods": [{"name": "a", "method": "online", "change": ["EnD"]}]},
        r"change is \['EnD'\], expected `callback: \{argument: value\}`",
    ),
    "selection": ({"selection": "test"}, "selection"),
    "processes": ({"processes": 0}, "processes is 0, expected at least 1"),
    "key": ({"method": "plain"}, "method"),
    "quoted": (
        {"quoted": [{"method": "a", "data": "shape", "cite": "b", "values": {"accuracy": 1}}]},
        "The quoted row 'a' is of shape, which is not compared; there are shapes",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changed, message = BAD[case]
    write(**changed)
    line = refused(capsys, main(["compare", "--config", "own.yaml"]))
    assert re.search(message, line), line
    assert not Path("out").exists()


def test_results_of_another_version_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    write()
    Path("out").mkdir()
    Path("out/results.csv").write_text("method,seed,value\nplain,0,1\n")
    line = refused(capsys, main(["compare", "--config", "own.yaml"]))
    assert "out/results.csv" in line and "another version" in line
    assert Path("out/results.csv").read_text() == "method,seed,value\nplain,0,1\n"


def test_two_comparisons_do_not_share_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    from filelock import FileLock

    write()
    Path("out").mkdir()
    with FileLock("out/.lock"):
        line = refused(capsys, main(["compare", "--config", "own.yaml"]))
    assert "Another comparison is at work in out" in line


def comparison(**changed: Any) -> Comparison:
    given: dict[str, Any] = {
        "methods": ["plain"],
        "data": [SHAPES],
        "seeds": [0],
        "settings": SMALL,
    }
    return Comparison(**{**given, **changed})


def test_every_combination_is_a_run_of_its_own() -> None:
    digits = [
        "BiasedDigits",
        {"class_path": "BiasedDigits", "name": "fg", "init_args": {"variant": "fg"}},
    ]
    found = planned_runs(
        comparison(data=digits, ratios=[0.9, 0.98], seeds=[3, 4], methods=["plain", "lff"])
    )
    assert len(found) == len({run.folder for run in found}) == 16
    last = yaml.safe_load(found[-1].text)
    assert found[-1].title == "lff on fg-0.98, seed 4"
    assert last["data"]["init_args"]["variant"] == "fg"
    assert last["data"]["init_args"]["rho"] == 0.98
    assert last["data"]["init_args"]["seed"] == last["seed"] == 4
    assert last["epochs"] == 2 and last["method"] == "lff"
    assert [run.seed for run in found] == [3] * 8 + [4] * 8  # a whole seed first


def test_a_change_is_the_list_it_stands_for() -> None:
    change = {"EnD": None, "Resample": {"sharpness": 9}, "Reweight": {}}
    rest = ["Augment", "ShortcutScore", "NoiseScore", "CrossBiasMix"]
    own = {"name": "own", "method": "online"}
    changed, online = planned_runs(
        comparison(methods=[{**own, "change": change}, "online"], data=["BiasedDigits"], seeds=[0])
    )
    by_name = [
        {entry["class_path"].rpartition(".")[2]: entry for entry in text["callbacks"]}
        for text in (yaml.safe_load(run.text) for run in (changed, online))
    ]
    assert sorted(by_name[0]) == sorted([*rest, "Resample", "Reweight"])
    assert all(by_name[0][name] == by_name[1][name] for name in rest)
    before, after = (found["Resample"]["init_args"] for found in reversed(by_name))
    assert after == {**before, "sharpness": 9} != before
    written = yaml.safe_load(changed.text)["callbacks"]
    [listed] = planned_runs(
        comparison(methods=[{**own, "callbacks": written}], data=["BiasedDigits"], seeds=[0])
    )
    assert listed.text == changed.text


def test_runs_that_share_a_file_are_not_at_work_together(tmp_path: Path) -> None:
    labels = {"class_path": "PseudoLabels", "init_args": {"file": "{folder}/{seed}.csv"}}
    ends = {"class_path": "Resample"}
    methods = [
        {"name": name, "method": "plain", "callbacks": [labels, ends]} for name in ("a", "b")
    ]
    found = planned_runs(comparison(methods=[*methods, "plain"], run=tmp_path / "out"))
    assert [run.shared for run in found] == [{f"{tmp_path}/out/0.csv"}] * 2 + [frozenset()]
    together = []
    failed = run_all(
        found, 2, _train, lambda at_work, ended: together.append({c.method for c in at_work})
    )
    assert {"a", "plain"} in together or {"b", "plain"} in together
    assert not any({"a", "b"} <= names for names in together)
    assert {run.method: "no file of scores" in said for run, said in failed.items()} == {
        "a": True, "b": True,
    }  # fmt: skip


def test_the_validation_split_selects_and_the_test_split_never_does(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.csv"
    values = {
        ("validation", "accuracy"): [0.5, 0.9, 0.9],
        ("validation", "accuracy_unbiased"): [0.7, 0.2, 0.3],
        ("test", "accuracy"): [0.1, 0.2, 0.99],
        ("test", "accuracy_unbiased"): [0.11, 0.22, 0.33],
    }
    with metrics.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "epoch", "split", "name", "value"])
        for (split, name), numbers in values.items():
            for epoch, value in enumerate(numbers):
                writer.writerow([10 * epoch, epoch, split, name, value])
        writer.writerow([5, 0, "train", "train/accuracy", 1.0])
    results = {"accuracy": 0.99, "accuracy_unbiased": 0.33, "oracle": False, "selection": "last"}
    assert select(results, metrics, "last") == results
    biased = select(results, metrics, "best-biased-validation")
    assert (biased["accuracy"], biased["accuracy_unbiased"], biased["oracle"]) == (0.2, 0.22, False)
    oracle = select(results, metrics, "oracle-validation")
    assert (oracle["accuracy_unbiased"], oracle["oracle"]) == (0.11, True)
    metrics.write_text("step,epoch,split,name,value\n1,0,test,accuracy,1\n")
    with pytest.raises(ConfigError, match="has no accuracy on a validation split"):
        select(results, metrics, "best-biased-validation")


def test_json_results_that_are_damaged_are_named(tmp_path: Path) -> None:
    (run,) = planned_runs(comparison(run=tmp_path))
    assert run.results() is None
    run.folder.mkdir(parents=True)
    (run.folder / "results.json").write_text("{")
    with pytest.raises(ConfigError, match="results.json is damaged; delete it"):
        run.results()
    (run.folder / "results.json").write_text(json.dumps({"accuracy": 1}))
    with pytest.raises(ConfigError, match="results.json is damaged"):
        run.results()
