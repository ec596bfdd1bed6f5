"""Voronoi cells: where misclassified samples lie deepest in another class's cell, they conflict."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from online_debias.callbacks import Information
from online_debias.engine import Batch, Callback, Run
from online_debias.errors import ConfigError, expect
from online_debias.functional.scores.voronoi_mining import (
    By,
    alignment_weights,
    centroids,
    relative_distance,
)
from online_debias.functional.weights.mass_mean import mass_mean
from online_debias.offline.retrain import retrain
from online_debias.runs.pipeline import Pipeline, PipelineResult, TrainingJob


class Voronoi(Pipeline):
    """Finds conflicting samples in the Voronoi cells of a plain model, then weighs them up.

    Nahon, Nguyen and Tartaglione, "Mining bias-target Alignment from Voronoi Cells" (ICCV 2023), in
    two trainings: (1) "first", a plain model. After each of its epochs but the first, a warm-up,
    the cells of the correctly classified samples' class centroids are made, and the mean distance
    of the misclassified ones to the border that they are beyond is measured. In the epoch in which
    it is largest the bias shows best: a sample misclassified then is conflicting, its pseudo bias
    label the class predicted. (2) a fresh model, where aligned samples weigh 1 / rho and others
    1 / (1 - rho), with rho the aligned share of their class, and with the callbacks of the
    settings: the method `voronoi` has `ConflictingInformation`, and `normalize: none`, which leaves
    the weights as they are.

    Where this differs: features and predictions are those that the training steps of the epoch
    showed, so there is no further pass over the training set, and a sample that an epoch leaves out
    counts with what was last seen of it. The score, beyond who is flagged, grows with the distance.
    Of the released code's ways only one can be had (`by`); it skips batches without a conflicting
    sample, its centroids leave out most samples once the counts overflow, and its weights are all 1
    as soon as one class has no conflicting sample, where here that class has the weight 1.

    The first training keeps the features of all samples on the device and in its checkpoint.

    Args:
        by: class that rho is taken of for a conflicting sample: "target", as published, or "bias",
            the class predicted, as in the released code.

    Raises:
        ValueError: `by` is another word.

    Example:
        >>> Voronoi().by
        'target'
    """

    def __init__(self, by: By = "target") -> None:
        expect(self, "by", by, by in get_args(By), "'target' or 'bias'")
        self.by = by

    def fit(self, job: TrainingJob) -> PipelineResult:
        """Train and mine, then train anew."""
        if job.settings.epochs < 2:
            raise ConfigError(
                "Voronoi: epochs is 1, expected at least 2, as the first only warms up."
            )
        mining = _Mining()
        first = job.trainer("first", [mining])
        first.fit()
        with job.between_trainings():
            targets = job.train.targets.cpu()
            score, bias = mining.found(targets)
            weights = alignment_weights(targets, bias, len(job.train.classes), self.by)
        return retrain(job, [first], score, bias, callbacks=[_AlignmentWeights(weights)])


class _Mining(Callback):
    """Remembers what an epoch showed, and the pseudo bias labels of the best one so far."""

    taps = ("bottleneck",)
    features: Tensor
    targets: Tensor
    predictions: Tensor
    best_bias: Tensor
    best_distance: Tensor
    best: Tensor

    def __init__(self) -> None:
        super().__init__("voronoi_mining")

    def setup(self, run: Run) -> None:
        n = run.n_samples
        self.register_buffer("features", torch.zeros(n, run.width("bottleneck")))
        self.register_buffer("targets", torch.zeros(n, dtype=torch.int64))
        self.register_buffer("predictions", torch.full((n,), -1))  # -1: not seen
        self.register_buffer("best_bias", torch.full((n,), -1))  # -1: not misclassified
        self.register_buffer("best_distance", torch.zeros(n))
        self.register_buffer("best", torch.tensor(-1.0))

    def on_features(self, batch: Batch) -> None:
        assert batch.logits is not None
        self.features.index_copy_(0, batch.index, batch.features["bottleneck"].detach())
        self.targets.index_copy_(0, batch.index, batch.targets)
        self.predictions.index_copy_(0, batch.index, batch.logits.detach().argmax(1))

    def on_epoch_end(self, run: Run) -> None:
        if run.epoch == 0:
            return
        right = self.predictions == self.targets
        wrong = ~right & (self.predictions >= 0)
        bias = torch.where(wrong, self.predictions, self.targets)
        means, count = centroids(self.features, self.targets, right, run.n_classes)
        seen = count > 0
        distance = relative_distance(self.features, self.targets, bias, means, seen)
        known = wrong & seen[self.targets] & seen[bias]
        mean = mass_mean(distance, known.to(distance.dtype))
        mean = torch.where(wrong.any(), mean, -1.0)  # nobody misclassified: nothing to learn
        run.record("mining/relative_distance", mean)
        better = mean > self.best
        found = torch.where(wrong, bias, -1)  # the target of one not seen is not known here
        self.best_bias.copy_(torch.where(better, found, self.best_bias))
        self.best_distance.copy_(torch.where(better, distance, self.best_distance))
        self.best.copy_(torch.maximum(mean, self.best))

    def found(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return score and pseudo bias label of each sample, `[N]`, on the CPU."""
        bias, distance = self.best_bias.cpu(), self.best_distance.cpu()
        bias = torch.where(bias < 0, targets, bias)
        flagged = (0.5 + 0.5 * distance / (1 + distance)).clamp_min(0.5 + 1e-4)
        return torch.where(bias == targets, 0.0, flagged), bias


class _AlignmentWeights(Callback):
    """Weighs the loss of each sample by a number that is known before."""

    weights: Tensor

    def __init__(self, weights: Tensor) -> None:
        super().__init__("alignment_weights")
        self.register_buffer("weights", weights)

    def on_loss(self, batch: Batch) -> None:
        batch.reweight(self.name, self.weights[batch.index])


class ConflictingInformation(Information):
    """Takes the information on the bias out of conflicting rows only; see `Information`.

    The head learns the bias value from all rows; the model lowers what the head tells of it where
    bias and class part, so that it need not forget what the class says of the bias.

    Signals: requires `bias_label` (argument `signal`) and `conflict` (argument `conflict`).
    Records: as `Information`, under the name `conflicting_information`.

    Args:
        weight: of the information, relative to the criterion's 1.
        signal: name of the bias label.
        conflict: name of the score; rows above 1/2 are conflicting.
        tap: name of the features.
        name: unique in a run.

    Raises:
        ValueError: `weight` is not a positive number.

    Example:
        >>> ConflictingInformation(weight=2.0).requires
        ('bias_label', 'conflict')
    """

    def __init__(
        self,
        weight: float = 2.0,
        signal: str = "bias_label",
        conflict: str = "conflict",
        tap: str = "bottleneck",
        name: str | None = None,
    ) -> None:
        super().__init__(weight, signal, tap, name)
        self.requires, self.conflict = (signal, conflict), conflict

    def on_loss(self, batch: Batch) -> None:
        """Add the head's loss and the model's."""
        self._conflicting = batch.signals[self.conflict] > 0.5
        super().on_loss(batch)

    def removal(self, logits: Tensor, bias: Tensor, keep: Tensor) -> Tensor:
        """Return the information over the conflicting rows that count."""
        return super().removal(logits, bias, keep & self._conflicting)
