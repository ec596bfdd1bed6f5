"""What is installed, and what the README says."""

from __future__ import annotations

import configparser
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import online_debias
from online_debias import callbacks
from online_debias.cli import compare
from online_debias.comparison.grid import planned_runs
from online_debias.settings import parser

ROOT = Path(__file__).resolve().parent.parent


def test_setup_names_every_package() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    named = setup["options"]["packages"].split()
    core = (path for path in (ROOT / "online_debias").rglob("__init__.py"))
    callbacks = (
        ROOT / "online_debias" / path.relative_to(ROOT)
        for path in (ROOT / "callbacks").rglob("__init__.py")
    )
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (*core, *callbacks)}
    assert set(named) == found and named == sorted(named)


def test_the_link_lets_tools_see_the_callbacks() -> None:
    assert (ROOT / "online_debias/callbacks").resolve() == ROOT / "callbacks"


def test_the_folder_callbacks_cannot_be_imported_by_its_own_name() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import callbacks"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode != 0 and "online_debias.callbacks" in done.stderr


def test_every_exported_name_is_there() -> None:
    for name in online_debias.__all__:
        assert getattr(online_debias, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = online_debias.Nothing


def test_importing_a_module_starts_nothing() -> None:
    for module in pkgutil.walk_packages(online_debias.__path__, "online_debias."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    assert not torch.is_deterministic_algorithms_warn_only_enabled()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_loop_of_the_readme_trains(capsys: pytest.CaptureFixture[str]) -> None:
    code = blocks("python")[0].replace("range(8)", "range(1)")
    assert len(code.splitlines()) <= 24
    names: dict[str, object] = {}
    exec(code.replace("BiasedDigits().train()", "images").replace("import torch\n", PREPARE), names)
    assert names["engine"].run.step == 2  # type: ignore[attr-defined]


PREPARE = """
import torch
from tests.conftest import make_images
images = make_images(240)
"""


def test_the_callback_of_the_readme_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from online_debias.cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(ROOT), str(tmp_path), *sys.path])
    Path("mine.py").write_text(blocks("python")[1])
    Path("settings.yaml").write_text(blocks("yaml")[0])
    small = ["--data", "tests.own.Shapes", "--epochs", "1", "--batch_size", "40"]
    assert main(["train", "--config", "settings.yaml", "--run", "a", *small]) == 0
    assert "weights/largest_loss" in Path("a/metrics.csv").read_text()


def test_every_script_that_the_makefile_runs_is_there() -> None:
    scripts = re.findall(r"benchmarks/[\w/]+\.py", (ROOT / "Makefile").read_text())
    assert scripts and all((ROOT / script).is_file() for script in scripts)


def test_every_results_file_has_its_table() -> None:
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    shown = "".join(document.read_text() for document in documents)
    for path in (ROOT / "benchmarks/results").glob("*.csv"):
        assert re.search(rf"<!-- {path.stem} -->\n(\*\*.*\*\*\n\n)?\|", shown), path.name


def test_every_callback_has_its_row_in_the_readme_and_in_the_benchmark() -> None:
    readme = (ROOT / "README.md").read_text()
    benchmark = (ROOT / "benchmarks/quality/methods.yaml").read_text()
    need_another_run = {"BiasAmplifier", "PseudoLabels"}  # measured with what makes their files
    for name in callbacks.__all__:
        assert f"| `{name}` |" in readme, name
        assert (f"online_debias.callbacks.{name}\n" in benchmark) != (name in need_another_run)


def test_every_row_of_the_benchmark_can_be_built(tmp_path: Path) -> None:
    for name, row in yaml.safe_load((ROOT / "benchmarks/quality/methods.yaml").read_text()).items():
        assert row.keys() - {"seeds"} == {"paper", "extra", "settings"}, name
        (tmp_path / "row.yaml").write_text(yaml.safe_dump(row["settings"]))
        settings, _ = parser.parse(["--config", str(tmp_path / "row.yaml")])
        assert len(settings.callbacks) == len(row["settings"]["callbacks"])


def test_settings_in_the_documents_can_be_used() -> None:
    text = (ROOT / "docs/baselines.md").read_text()
    found = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert len(found) >= 2
    for block in found:
        given = yaml.safe_load(block)
        assert parser.resolve(given)[0].method == given["method"]


def test_the_comparisons_of_the_documents_can_be_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (readme,) = (block for block in blocks("yaml") if block.startswith("# comparison.yaml"))
    demo = (ROOT / "benchmarks/quality/demo_compare.yaml").read_text()
    for text, n_methods in ((readme, 5), (demo, 9)):
        Path("own.yaml").write_text(text)
        found = compare.parse(["--config", "own.yaml", "--seeds", "[0]", "--ratios", "[0.98]"])
        assert len(planned_runs(found)) == n_methods
