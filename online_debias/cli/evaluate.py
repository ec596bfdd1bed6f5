"""`online-debias evaluate`: group accuracies of a finished run's model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from online_debias.errors import ConfigError, as_config_error
from online_debias.functional.metrics import group_accuracies, group_metrics
from online_debias.report.naming import seen_as
from online_debias.runs.shortcut_sentence import sentence
from online_debias.runtime.checkpoint import load_weights
from online_debias.runtime.device import device_of
from online_debias.settings import parser
from online_debias.taps.taps import Taps
from online_debias.training.evaluation import predict


def command(run: Path, arguments: Sequence[str], console: Console | None = None) -> None:
    """Print the test accuracies of the model in `run`, on its own data or on what `--data` says.

    Also the run's verdict, whether its training data has a shortcut, if it looked for one.

    Raises:
        ConfigError: there is no finished run, or its model does not fit the settings.
    """
    weights = run / "model.safetensors"
    if not weights.is_file():
        raise ConfigError(f"There is no finished run in {run}: it has no model.safetensors.")
    settings, _ = parser.parse(["--config", str(run / "config.yaml"), *arguments])
    with as_config_error():
        data = settings.data.test()
        model = settings.model(len(data.classes))
        otherwise = (
            f"The model in {weights} does not fit {len(data.classes)} classes of "
            f"{type(settings.data).__name__} or is damaged; evaluate it on data like its own."
        )
        load_weights(weights, model, otherwise)
        Taps(model, settings.taps, [])  # transforms are part of the model
        device = device_of(settings.device)
    predictions = predict(model.to(device), data.to(device)).argmax(1)
    console = console or Console()
    for name, value in group_metrics(predictions, data.targets, data.bias).items():
        console.print(f"{name:<22}{value:.4f}")
    if data.bias is not None:
        console.print(_groups(predictions, data.targets, data.bias, data.classes))
    written = run / "results.json"
    results = json.loads(written.read_text()) if written.is_file() else {}
    if "shortcut" in results:
        console.print(f"\nIn training: {sentence(results)}", markup=False)


def _groups(
    predictions: torch.Tensor, targets: torch.Tensor, bias: torch.Tensor, classes: tuple[str, ...]
) -> Table:
    cells = group_accuracies(predictions, targets, bias)
    values = sorted({value for _, value in cells})
    table = Table(
        title="Accuracy by target (row) and bias value (column)", title_justify="left", box=None
    )
    table.add_column("")
    for value in values:
        table.add_column(seen_as(value, classes), justify="right")
    for target, name in enumerate(classes):
        row = [cells.get((target, value)) for value in values]
        table.add_row(name, *("" if cell is None else f"{cell[0]:.2f}" for cell in row))
    return table
