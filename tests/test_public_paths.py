"""Import paths that users write in their loops, settings and callbacks; they outlive a move."""

from __future__ import annotations

import importlib

import pytest

from online_debias import callbacks, data, detectors, offline
from online_debias.runs.pipeline import OneRun
from online_debias.settings.parser import resolve

MODULES = {  # module -> names that are imported from it
    "online_debias": [
        "Batch",
        "Callback",
        "Engine",
        "Event",
        "Indexed",
        "Monitor",
        "Run",
        "Tap",
        "Trainer",
        "TrainingSettings",
        "checkpoint",
    ],
    "online_debias.batch_norm": ["over_ranks"],
    "online_debias.callbacks": callbacks.__all__,
    "online_debias.callbacks.monitors": ["Detection", "MetricsCSV", "Progress", "TensorBoard"],
    "online_debias.data": data.__all__,
    "online_debias.detectors": detectors.__all__,
    "online_debias.functional.gce": ["GeneralizedCrossEntropy", "generalized_cross_entropy"],
    "online_debias.models": ["Imported", "SimpleConvNet", "SmallConvNet", "Torchvision"],
    "online_debias.offline": offline.__all__,
    "online_debias.torchvision_compat": ["import_torchvision"],
}


@pytest.mark.parametrize("module", MODULES)
def test_names_are_where_users_import_them_from(module: str) -> None:
    found = importlib.import_module(module)
    for name in MODULES[module]:
        assert getattr(found, name) is not None


def test_settings_of_older_runs_find_their_pipeline() -> None:
    """Each config.yaml names it."""
    settings, _ = resolve({"method": "plain", "pipeline": "online_debias.pipeline.OneRun"})
    assert isinstance(settings.pipeline, OneRun)
