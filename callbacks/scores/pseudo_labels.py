"""Publish pseudo-labels that were found before the run."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from online_debias.engine import Batch, Callback, Run
from online_debias.runtime import scores_csv


class PseudoLabels(Callback):
    """Publishes each sample's score and pseudo bias label from a scores.csv.

    So what another run, another model or a person found out can be given to any action: two-step
    methods hand their findings to their last training by it.

    Signals: provides `conflict` in [0, 1] (argument `signal`) and `bias_label` (argument
    `label_signal`). Mixed rows have the score 0, and the bias value of their first image.

    Args:
        file: `index,target,score,bias_label`, one row a training sample.
        threshold: makes flags of the scores: 1 above it, 0 up to it; None publishes them as they
            are.
        signal: name of the published score.
        label_signal: name of the published bias value.
        name: unique in a run.

    Raises:
        ValueError: `threshold` is out of range; when the run is set up, the file cannot be read
            or does not fit the training set.

    Example:
        >>> PseudoLabels("runs/two-step/scores.csv", threshold=0.5).provides
        ('conflict', 'bias_label')
    """

    score: Tensor
    bias_label: Tensor

    def __init__(
        self,
        file: str | Path = "scores.csv",
        threshold: float | None = None,
        signal: str = "conflict",
        label_signal: str = "bias_label",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        valid = threshold is None or 0 <= threshold < 1
        self.expect("threshold", threshold, valid, "0 <= threshold < 1, or None")
        self.provides = (signal, label_signal)
        self.file, self.threshold = Path(file), threshold
        self.signal, self.label_signal = signal, label_signal

    def setup(self, run: Run) -> None:
        """Read the file."""
        _, score, group = scores_csv.read(self.file)
        if len(score) != run.n_samples:
            raise ValueError(
                f"PseudoLabels: {self.file} has {len(score)} rows, but there are {run.n_samples} "
                "training samples; give the scores of this training set."
            )
        if self.threshold is not None:
            score = (score > self.threshold).float()
        self.register_buffer("score", score.to(run.device))
        self.register_buffer("bias_label", group.to(run.device))
        run.n_values[self.label_signal] = max(run.n_classes, int(group.max()) + 1)

    def on_features(self, batch: Batch) -> None:
        """Publish."""
        batch.publish(self.signal, self.score[batch.index], ~batch.mixed)
        batch.publish(self.label_signal, self.bias_label[batch.index])
