"""The benchmark of quality: its comparisons can be read, and their small forms are small."""

from __future__ import annotations

from pathlib import Path

import pytest
import quality
import yaml

from online_debias.cli import compare
from online_debias.comparison.grid import planned_runs
from online_debias.settings.parser import source_class

pytestmark = pytest.mark.slow
SETS = sorted(quality.SETS.glob("*.yaml"))
BESIDE = sorted(set(quality.HERE.parent.glob("*/*.yaml")) - {quality.HERE / "methods.yaml"})


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("path", SETS, ids=lambda path: path.stem)
def test_the_small_form_is_the_same_comparison_made_small(path: Path) -> None:
    whole = compare.parse(["--config", str(path)])
    small = compare.parse(["--config", str(quality.quick(path))])
    longer = [{**m, "epochs": 1} if "epochs" in m else m for m in whole.methods]
    assert small.methods == longer and small.ratios == whole.ratios
    assert len(small.seeds) == 1 and small.settings == {**whole.settings, "epochs": 1}
    assert small.run != whole.run and whole.run == Path("runs/quality") / path.stem
    for one, other in zip(small.data, whole.data, strict=True):
        assert isinstance(one, dict) and isinstance(other, dict)
        kept = {name: v for name, v in other["init_args"].items() if name != "n_train"}
        assert {name: v for name, v in one["init_args"].items() if name != "n_train"} == kept
        assert one["init_args"].get("n_train", 2000) == 2000


@pytest.mark.parametrize("path", SETS, ids=lambda path: path.stem)
def test_every_comparison_treats_all_methods_alike(path: Path) -> None:
    given = yaml.safe_load(path.read_text())
    epochs = given["settings"]["epochs"]
    assert given["settings"] == {"epochs": epochs, "evaluate_every": epochs}
    assert "online" in given["methods"]  # whom the table puts the others beside
    # One has weights of its own, EnD, to its advantage; none has another length or rate.
    own = [method for method in given["methods"] if not isinstance(method, str)]
    assert all(method.keys() <= {"name", "method", "callbacks"} for method in own)


@pytest.mark.parametrize("path", [*SETS, *BESIDE], ids=lambda path: path.stem)
def test_the_data_of_every_comparison_is_there(path: Path) -> None:
    for source in compare.parse(["--config", str(path)]).data:
        assert isinstance(source, dict) and source_class(source["class_path"]).summary


def test_runs_that_need_no_files_can_be_built() -> None:
    whole = compare.parse(["--config", str(quality.SETS / "patch.yaml")])
    small = compare.parse(["--config", str(quality.quick(quality.SETS / "patch.yaml"))])
    assert len(planned_runs(small)) == len(whole.ratios) * len(whole.methods)


def test_finished_runs_of_all_comparisons_make_one_file(tmp_path: Path) -> None:
    folder = tmp_path / "runs/quality/patch"
    folder.mkdir(parents=True)
    (folder / "results.csv").write_text("method,data,ratio,seed,metric,value\na,b,0.9,0,c,0.5\n")
    assert quality.finished("patch") == ["a,b,0.9,0,c,0.5"]
    assert quality.finished("digits") == []
