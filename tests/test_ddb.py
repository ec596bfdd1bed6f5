"""DDB: what the amplifier gets wrong, the two recipes, and that synthetic images keep it biased."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from online_debias.callbacks import BiasAmplifier
from online_debias.cli.main import main
from online_debias.functional.scores.loss_filter import loss_filter
from online_debias.functional.weights.loss_share import loss_share
from online_debias.offline.ddb import ddb, synthetic
from online_debias.offline.ddb.ddb import DDB
from online_debias.runtime import scores_csv
from tests.conftest import make_model, make_trainer
from tests.test_cli import SHAPES, here, refused  # noqa: F401  (a fixture)

pytest.importorskip("diffusers")


def test_the_filter_equals_one_by_hand() -> None:
    values = [0.1, 0.3, 0.2, 5.0, 0.1, 2.0]
    mean = sum(values) / 6
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / 6)
    for gamma in (0.0, 0.5, 1.0, 2.0):
        expected = [value > mean + gamma * spread for value in values]
        assert loss_filter(torch.tensor(values), gamma).tolist() == expected


def test_the_loss_share_equals_one_by_hand() -> None:
    stream = torch.Generator().manual_seed(0)
    biased, own = torch.rand(2, 20, generator=stream) * 5
    expected = [b / (b + o) for b, o in zip(biased.tolist(), own.tolist(), strict=True)]
    assert loss_share(biased, own).tolist() == pytest.approx(expected, rel=1e-5)
    assert loss_share(torch.zeros(2), torch.tensor([0.0, 1.0])).tolist() == pytest.approx([0.5, 0])


def test_the_amplifier_is_frozen_and_weighs_by_both_losses(tmp_path: Path) -> None:
    torch.manual_seed(5)
    weights = make_model().state_dict()
    safetensors.torch.save_file(weights, tmp_path / "amplifier.safetensors")
    amplifier = BiasAmplifier(tmp_path / "amplifier.safetensors", lambda n: make_model())
    trainer = make_trainer([amplifier], epochs=1, batch_size=48)
    factors = []
    on_loss = amplifier.on_loss

    def seen(batch: Any) -> None:
        on_loss(batch)
        own = torch.nn.functional.cross_entropy(batch.logits, batch.targets, reduction="none")
        biased = torch.nn.functional.cross_entropy(
            batch.signals["bias_logits"], batch.targets, reduction="none"
        )
        factors.append((batch.factors["bias_amplifier"], (biased / (biased + own)).detach()))

    amplifier.on_loss = seen  # type: ignore[method-assign]
    trainer.fit()
    for given, expected in factors:
        torch.testing.assert_close(given, expected)
    after = amplifier.network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in weights.items())


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no file"), (b"x", "is damaged or not of a SmallConvNet with 3 classes")],
)
def test_an_amplifier_that_cannot_be_loaded_is_one_sentence(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    if content:
        (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        make_trainer([BiasAmplifier(tmp_path / "a.safetensors")])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recipe": 3}, "DDB: recipe is 3, expected 1 or 2"),
        ({"per_class": 0}, "DDB: per_class is 0, expected"),
        ({"amplifier_epochs": 0}, "DDB: amplifier_epochs is 0, expected"),
        ({"gamma": -1.0}, "DDB: gamma is -1.0, expected"),
    ],
)
def test_arguments_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DDB(**settings)


# A diffusion model of toy size: two levels, some steps; enough to learn three colours.
TINY = {
    "class_path": "online_debias.offline.Diffusion",
    "init_args": {"channels": [16, 32], "steps": 150, "batch_size": 32, "sampling_steps": 8},
}


def train(run: str, method: str, **pipeline: Any) -> dict[str, Any]:
    given = {"diffusion": TINY, "per_class": 40, "synthetic": "shared", **pipeline}
    settings = {"method": method, "pipeline": {"init_args": given}, "epochs": 4}
    Path(f"{run}.yaml").write_text(json.dumps(settings))
    arguments = [*SHAPES[:4], "--config", f"{run}.yaml", "--run", run]
    assert main(["train", *arguments]) == 0
    found: dict[str, Any] = json.loads(Path(run, "results.json").read_text())
    return found


def weights(run: str) -> dict[str, Tensor]:
    found: dict[str, Tensor] = safetensors.torch.load_file(f"{run}/model.safetensors")
    return found


def test_both_recipes_share_one_diffusion_model_and_each_pays_for_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = train("one", "ddb-1")
    made = {path: path.stat().st_mtime for path in Path("shared").iterdir()}
    second = train("two", "ddb-2")
    assert {path: path.stat().st_mtime for path in made} == made
    for found in (first, second):
        assert found["training_passes"] == 3 and not found["oracle"]
        assert found["samples"] > 150 * 32 and found["seconds_training"] > 0
        assert found["detect_auroc"] > 0.9
        assert found["memorised_share"] < 0.5
        assert found["amplifier_aligned"] > found["amplifier_conflicting"]
    assert first["extra_parameters"] == second["extra_parameters"] > 0
    assert Path("two/amplifier/model.safetensors").is_file()

    # The paper's point: an amplifier trained on real images gets more conflicting ones right.
    real = train("real", "ddb-1", amplifier_on="real")
    assert real["training_passes"] == 2
    assert real["amplifier_conflicting"] > first["amplifier_conflicting"]

    # Pseudo-groups: flagged samples have the amplifier's answer, others their own class.
    found = scores_csv.read(Path("one/scores.csv"))
    flagged = found.score > 0.5
    assert 0 < int(flagged.sum()) < 120
    assert torch.equal(found.bias_label[~flagged], found.targets[~flagged])
    assert bool((found.bias_label[flagged] != found.targets[flagged]).all())

    # A run that was stopped before its last training ends with the same weights.
    before = weights("two")
    for name in ("last.pt", "results.json", "amplifier/model.safetensors"):
        Path("two", name).unlink()
    assert main(["train", "--resume", "two"]) == 0
    assert all(torch.equal(value, before[name]) for name, value in weights("two").items())

    capsys.readouterr()
    settings = json.loads(Path("one.yaml").read_text())
    settings["data"] = {"class_path": "tests.own.Shapes", "init_args": {"label": 1}}
    Path("other.yaml").write_text(json.dumps(settings))
    status = main(["train", "--config", "other.yaml", "--batch_size", "40", "--run", "other"])
    assert "another data set" in refused(capsys, status)


def test_without_the_extra_a_run_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> Any:
        return None if name == "diffusers" else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    status = main(["train", *SHAPES, "--method", "ddb-1", "--run", "a"])
    assert "online-debias[ddb]" in refused(capsys, status)
    assert not Path("a").exists()


def test_modules_are_where_they_are_named() -> None:
    assert ddb.synthesize is synthetic.synthesize
