"""JTT: train briefly, then train anew with the errors drawn more often."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from online_debias.errors import expect
from online_debias.offline.retrain import retrain
from online_debias.runs.pipeline import Pipeline, PipelineResult, TrainingJob
from online_debias.training.evaluation import predict


class JTT(Pipeline):
    """Draws what a briefly trained model gets wrong `upweight` times as often as the rest.

    Just Train Twice (Liu et al., ICML 2021), in two trainings: (1) "first", a plain model, for
    `first_epochs` epochs; the training images that it misclassifies then are flagged; (2) a fresh
    model with flagged images drawn more often, and with the callbacks of the settings: the method
    `jtt` has none. The pseudo bias label of an image is the class that the first model predicts.

    In the paper flagged images are repeated, so that its second training has more steps; here it
    has as many as a plain one, which makes the methods comparable. The paper chooses the epochs,
    the factor and when to stop by the worst-group accuracy of annotated validation images; here
    they are what they are set to, and no bias label is read.

    Args:
        first_epochs: length of (1); its learning rate runs through the schedule in that time.
        upweight: how often a flagged image is drawn, relative to another.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> JTT(first_epochs=2, upweight=20).upweight
        20
    """

    def __init__(self, first_epochs: int = 1, upweight: float = 50) -> None:
        expect(self, "first_epochs", first_epochs, first_epochs >= 1, "at least 1")
        valid = 1 <= upweight < math.inf
        expect(self, "upweight", upweight, valid, "a finite number of at least 1")
        self.first_epochs, self.upweight = first_epochs, upweight

    def fit(self, job: TrainingJob) -> PipelineResult:
        """Train, flag the errors, train anew."""
        first = job.trainer("first", settings=replace(job.settings, epochs=self.first_epochs))
        first.fit()
        with job.between_trainings():
            predictions = predict(first.model, job.train.to(first.device), first.format).argmax(1)
            wrong = predictions != job.train.targets.cpu()
            rates = torch.where(wrong, float(self.upweight), 1.0)
        return retrain(job, [first], wrong.float(), predictions, rates=rates)
