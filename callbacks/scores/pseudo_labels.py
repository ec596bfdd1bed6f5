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

    Signals: provides `conflict` in [0, 1] (argument `signal`) and `bias_group` (argument
    `group_signal`). Mixed rows have the score 0, and the bias value of their first image.

    Args:
        file: `index,target,score,bias_group`, one row a training sample.
        threshold: makes flags of the scores: 1 above it, 0 up to it; None publishes them as they
            are.
        signal: name of the published score.
        group_signal: name of the published bias value.
        name: unique in a run.

    Raises:
        ValueError: `threshold` is out of range; when the run is set up, the file cannot be read
            or does not fit the training set.

    Example:
        >>> PseudoLabels("runs/two-step/scores.csv", threshold=0.5).provides
        ('conflict', 'bias_group')
    """

    score: Tensor
    bias_group: Tensor

    def __init__(
        self,
        file: str | Path = "scores.csv",
        threshold: float | None = None,
        signal: str = "conflict",
        group_signal: str = "bias_group",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if threshold is not None and not 0 <= threshold < 1:
            raise ValueError(
                f"PseudoLabels: threshold is {threshold}, expected 0 <= threshold < 1, or None."
            )
        self.provides = (signal, group_signal)
        self.file, self.threshold = Path(file), threshold
        self.signal, self.group_signal = signal, group_signal

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
        self.register_buffer("bias_group", group.to(run.device))
        run.n_values[self.group_signal] = max(run.n_classes, int(group.max()) + 1)

    def on_features(self, batch: Batch) -> None:
        """Publish."""
        batch.publish(self.signal, self.score[batch.index].masked_fill(batch.mixed, 0.0))
        batch.publish(self.group_signal, self.bias_group[batch.index])
