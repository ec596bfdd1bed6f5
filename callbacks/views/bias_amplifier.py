"""DDB, Recipe II: what a frozen, biased network finds hard weighs more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from online_debias.detectors import conflict
from online_debias.engine import Batch, Callback, Run
from online_debias.functional.weights.loss_share import loss_share
from online_debias.models import SmallConvNet
from online_debias.runtime.checkpoint import load_weights


class BiasAmplifier(Callback):
    """Weighs rows by the share of a frozen network's loss in the sum of its loss and the model's.

    Recipe II of DDB (Ciranni et al., NeurIPS 2025). The bias amplifier is a classifier that was
    trained on synthetic, bias-aligned images alone: never having seen a bias-conflicting image, it
    cannot have memorised one. Here it is not trained any further, so it costs a forward pass. The
    method `ddb-2` trains one first; any network saved by a run can be given.

    Signals: provides `bias_logits`, the amplifier's logits (argument `logits_signal`),
    `bias_label`, the class it predicts (argument `label_signal`), and `conflict`, 1 - p(target) /
    max p (argument `signal`). Mixed rows are published as not conflicting: score 0, the target as
    bias value; they are weighed like others.
    Records: `weights/bias_amplifier`, the mean weight before it is scaled.

    Args:
        weights: the file of its weights, as runs write it.
        network: makes the network they are of, from the number of classes; SmallConvNet by default.
        logits_signal: name of the published logits.
        label_signal: name of the published bias value.
        signal: name of the published score.
        name: unique in a run.

    Raises:
        ValueError: when the run is set up, the file is missing, damaged or of another network.

    Example:
        >>> BiasAmplifier("runs/ddb/amplifier/model.safetensors").provides
        ('bias_logits', 'bias_label', 'conflict')
    """

    def __init__(
        self,
        weights: str | Path = "model.safetensors",
        network: Callable[[int], nn.Module] | None = None,
        logits_signal: str = "bias_logits",
        label_signal: str = "bias_label",
        signal: str = "conflict",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.weights, self.make = Path(weights), network or SmallConvNet
        self.logits_signal, self.label_signal, self.signal = logits_signal, label_signal, signal
        self.provides = (logits_signal, label_signal, signal)

    def setup(self, run: Run) -> None:
        """Load the amplifier and freeze it."""
        self.network = load_network(self.weights, self.make, run.n_classes)
        self.network.requires_grad_(False)

    def on_features(self, batch: Batch) -> None:
        """Ask the amplifier, publish what it says."""
        self.network.eval()  # also where an own loop called train() on this callback
        with torch.no_grad():
            logits = self.network(batch.inputs)
        posterior, targets = logits.softmax(1), batch.targets
        batch.publish(self.logits_signal, logits)
        batch.publish(self.label_signal, posterior.argmax(1), ~batch.mixed)
        batch.publish(self.signal, conflict(posterior, targets), ~batch.mixed)

    def on_loss(self, batch: Batch) -> None:
        """Weigh."""
        assert batch.logits is not None
        losses = (
            F.cross_entropy(logits.detach().float(), batch.targets, reduction="none")
            for logits in (batch.signals[self.logits_signal], batch.logits)
        )
        batch.reweight(self.name, loss_share(*losses))


def load_network(path: Path, make: Callable[[int], nn.Module], n_classes: int) -> nn.Module:
    """Return the network whose weights a model.safetensors holds.

    Raises:
        ValueError: in one sentence, the file is missing, damaged or of another network.
    """
    network = make(n_classes)
    otherwise = (
        f"BiasAmplifier: {path} is damaged or not of a {type(network).__name__} with "
        f"{n_classes} classes; give the network that it was saved from."
    )
    try:
        load_weights(path, network, otherwise)
    except FileNotFoundError:
        raise ValueError(
            f"BiasAmplifier: there is no file {path}; give the model.safetensors of a finished run."
        ) from None
    return network
