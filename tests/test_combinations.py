"""Any detector with any action, from one YAML file; two scorers side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from online_debias.settings import parser
from online_debias.training.trainer import Trainer
from tests.conftest import make_trainer

DETECTORS: dict[str, dict[str, Any]] = {
    "HalfSpaceTrees": {"fold": 64},
    "MassTrees": {"fold": 20},
    "Centroid": {},
    "Mahalanobis": {"fold": 64, "shrinkage": 1e4},
    "VoronoiCells": {},
    "Loda": {},
}
SCORERS: dict[str, dict[str, Any]] = {
    name: {"ConflictScore": {"detector": {"class_path": name, "init_args": settings}}}
    for name, settings in DETECTORS.items()
} | {
    "LossScore": {"LossScore": {}},
    "OfflineScore": {"OfflineScore": {}},
    "RiverScore": {"RiverScore": {"arguments": {"n_trees": 2, "height": 3, "window_size": 20}}},
    "BiasProbe": {"BiasProbe": {}},
    "OracleGroups": {"OracleGroups": {}},
}
ACTIONS = {"Reweight": {}, "Resample": {}, "Copies": {"threshold": 0.1}}


def train(tmp_path: Path, callbacks: list[dict[str, Any]]) -> Trainer:
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump({"callbacks": callbacks}))
    settings, _ = parser.parse(["--config", str(path)])
    trainer = make_trainer(settings.callbacks, epochs=3, batch_size=48, lr=3e-3)
    trainer.fit()
    return trainer


def listed(**callbacks: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"class_path": name, "init_args": settings} for name, settings in callbacks.items()]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    return train(tmp_path_factory.mktemp("plain"), [])


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("scorer", SCORERS)
def test_any_detector_goes_with_any_action(
    scorer: str, action: str, tmp_path: Path, plain: Trainer
) -> None:
    trainer = train(tmp_path, listed(**SCORERS[scorer], **{action: ACTIONS[action]}))
    scores = trainer.engine.run.samples.values("conflict")
    assert 0 <= scores.min() < scores.max() <= 1
    pairs = zip(trainer.model.parameters(), plain.model.parameters(), strict=True)
    assert any(not torch.equal(ours, theirs) for ours, theirs in pairs)


def test_two_scorers_act_in_one_run_under_two_names(tmp_path: Path) -> None:
    callbacks = listed(
        ConflictScore={"detector": {"class_path": "HalfSpaceTrees", "init_args": {"fold": 64}}},
        LossScore={"signal": "hard"},
        Resample={},
        Reweight={"signal": "hard"},
    )
    trainer, other = train(tmp_path, callbacks), train(tmp_path, callbacks[:2])
    assert set(trainer.engine.run.tables) == {"resample"}
    scores, alone = (one.engine.run.samples.values("conflict") for one in (trainer, other))
    assert not torch.equal(scores, alone)  # the actions changed what is scored
    hard = trainer.engine.run.samples.values("hard")
    assert hard.isfinite().all() and not torch.equal(hard, scores)
    assert {signal for c in trainer.engine.callbacks for signal in c.provides} == {
        "conflict",
        "bias_label",
        "hard",
    }
