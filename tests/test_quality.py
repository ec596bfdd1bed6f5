"""The benchmark of quality: its comparisons can be read, and their small forms are small."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml

from benchmarks.robustness.recoloured import RecolouredDigits
from online_debias.cli import compare
from online_debias.comparison.grid import cells
from online_debias.data import BiasedDigits
from tests.conftest import BENCHMARKS, script

COMPARISONS = sorted((BENCHMARKS / "quality").glob("*.yaml"))


@pytest.fixture
def quality(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.chdir(tmp_path)
    return script("quality")


@pytest.mark.parametrize("path", COMPARISONS, ids=lambda path: path.stem)
def test_the_small_form_is_the_same_comparison_made_small(quality: ModuleType, path: Path) -> None:
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


def test_every_comparison_has_the_same_settings_and_treats_all_methods_alike() -> None:
    for path in COMPARISONS:
        given = yaml.safe_load(path.read_text())
        epochs = 8 if path.stem in ("digits", "patch") else 12
        assert given["settings"] == {"epochs": epochs, "evaluate_every": epochs}
        named = {method for method in given["methods"] if isinstance(method, str)}
        own = [method for method in given["methods"] if not isinstance(method, str)]
        assert "online" in named
        if path.stem not in ("mnist_all", "unbiased"):  # beside whom it stands
            assert named >= {"plain", "lff", "jtt", "two-step", "group-dro"}
        # EnD is shown with other weights, to its advantage, and reads bias labels.
        assert [method["method"] for method in own] == (["end"] if path.stem == "mnist_all" else [])


def test_runs_that_need_no_files_can_be_built(quality: ModuleType) -> None:
    found = cells(
        compare.parse(["--config", str(quality.quick(BENCHMARKS / "quality/patch.yaml"))])
    )
    named = {"plain", "lff", "jtt", "two-step", "group-dro", "online-minimal", "online"}
    assert {cell.method for cell in found} == named


def test_settings_are_chosen_by_validation_images_each_colour_as_often_as_any_other() -> None:
    comparison = compare.parse(["--config", str(BENCHMARKS / "sharpness.yaml")])
    assert len(cells(comparison)) == 3 * 2 * 5
    given = {"colour_noise": 0.0, "pixel_noise": 0.1, "seed": 3}
    chosen_by = RecolouredDigits("fg", rho=0.99, **given).test()
    validation = BiasedDigits("fg", rho=0.1, **given).validation()
    assert torch.equal(chosen_by.images, validation.images)
    assert torch.equal(chosen_by.bias, validation.bias)


def test_finished_runs_of_all_comparisons_make_one_file(
    quality: ModuleType, tmp_path: Path
) -> None:
    folder = tmp_path / "runs/quality/patch"
    folder.mkdir(parents=True)
    (folder / "results.csv").write_text("method,data,ratio,seed,metric,value\na,b,0.9,0,c,0.5\n")
    assert quality.finished("patch") == ["a,b,0.9,0,c,0.5"]
    assert quality.finished("digits") == []
