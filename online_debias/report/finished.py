"""A finished run, read back from its folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from online_debias.data import Images
from online_debias.errors import ConfigError, as_config_error
from online_debias.runs.pipeline import Settings
from online_debias.runtime.checkpoint import load_weights
from online_debias.settings import parser
from online_debias.taps.taps import Taps

_ALWAYS = {"method", "data", "seed", "epochs", "samples", "accuracy", "seconds_training"}


@dataclass(frozen=True)
class Finished:
    """A run that ended and was written whole.

    Attributes:
        folder: where it is.
        settings: what it was trained with.
        text: the settings as YAML.
        results: what results.json holds.
        train: its training set.
    """

    folder: Path
    settings: Settings
    text: str
    results: dict[str, Any]
    train: Images

    def model(self, taps: Sequence[str] = ()) -> tuple[nn.Module, Taps]:
        """Return the trained model, on the CPU, in evaluation mode, and its taps.

        Args:
            taps: names of those to read.

        Raises:
            ConfigError: its weights are missing, damaged or of another network.
        """
        path = self.folder / "model.safetensors"
        if not path.is_file():
            raise ConfigError(
                f"{self.folder} has lost its model.safetensors; {_again(self.folder)}."
            )
        with as_config_error():
            model = self.settings.model(len(self.train.classes))
            otherwise = (
                f"{path} is damaged or of another network than {self.folder / 'config.yaml'} says; "
                f"{_again(self.folder)}."
            )
            load_weights(path, model, otherwise)
            # Also where none is read: transforms are part of the model.
            return model.eval(), Taps(model, self.settings.taps, taps)


def load(folder: Path) -> Finished:
    """Read a run folder, and build the run's training set.

    Raises:
        ConfigError: in one sentence, it is no run, the run is not finished, a file is damaged, or
            its data is not there any more.
    """
    if not (folder / "config.yaml").is_file():
        raise ConfigError(
            f"There is no run in {folder}: it has no config.yaml; name the folder that "
            "`online-debias train` wrote."
        )
    path = folder / "results.json"
    if not path.is_file():
        raise ConfigError(f"The run in {folder} is not finished; {_again(folder)}.")
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}); {_again(folder)}.") from error
    if not isinstance(results, dict) or not results.keys() >= _ALWAYS:
        raise ConfigError(f"{path} is not what a run writes; {_again(folder)}.")
    settings, _ = parser.parse(["--config", str(folder / "config.yaml")])
    with as_config_error():
        train = settings.data.train()
    text = (folder / "config.yaml").read_text(encoding="utf-8")
    return Finished(folder, settings, text, results, train)


def _again(folder: Path) -> str:
    return f"go on with it by `online-debias train --resume {folder}`"
