"""Publish the true bias labels: the upper bound of what finding them can bring."""

from __future__ import annotations

import torch

from online_debias.engine import Batch, Callback, Run


class OracleGroups(Callback):
    """Publishes every row's annotated bias value, and 1 as its score where that is not its class.

    In the place of a biased view it shows what a method does with perfect pseudo bias labels. The
    run is marked as an oracle.

    Signals: provides `bias_label`, the true bias label (argument `label_signal`), and `conflict`,
    1 for bias-conflicting rows and 0 for others (argument `signal`). Mixed rows have the score 0,
    and the bias value of their first image.

    Args:
        label_signal: name of the bias value; None does not publish it.
        signal: name of the score; None does not publish it.
        name: unique in a run.

    Raises:
        ValueError: nothing is left to publish.

    Example:
        >>> OracleGroups(signal=None).provides
        ('bias_label',)
    """

    uses_annotations = True

    def __init__(
        self,
        label_signal: str | None = "bias_label",
        signal: str | None = "conflict",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if label_signal is None and signal is None:
            raise ValueError(
                "OracleGroups: label_signal and signal are None, expected a name for at least one "
                "of them."
            )
        self.label_signal, self.signal = label_signal, signal
        self.provides = tuple(given for given in (label_signal, signal) if given)

    def setup(self, run: Run) -> None:
        """Say how many bias values there are."""
        assert self.bias is not None  # the engine refuses data without
        if self.label_signal:
            run.n_values[self.label_signal] = int(self.bias.max()) + 1

    def on_features(self, batch: Batch) -> None:
        """Publish."""
        assert self.bias is not None
        bias = self.bias[batch.index]
        if self.label_signal:
            batch.publish(self.label_signal, bias)
        if self.signal:
            conflicting = (bias != batch.targets).to(torch.float32)
            batch.publish(self.signal, conflicting, ~batch.mixed)
