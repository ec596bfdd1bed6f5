"""Two-step debiasing: biased model, one-class SVMs on its features, balanced retraining."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from online_debias.data import Images
from online_debias.functional.gce import generalized_cross_entropy
from online_debias.metrics import detection
from online_debias.pipeline import Fitted, Job, Pipeline
from online_debias.taps import Taps
from online_debias.trainer import Trainer


class TwoStep(Pipeline):
    """Finds conflicting samples with a biased model, then trains a new one on balanced draws.

    The short form of MoDAD (Pastore et al., WACV 2025): (1) a model trained with generalised
    cross-entropy; (2) for each class a one-class SVM on the bottleneck features of its correctly
    classified samples, which flags the share `error_ratio` of the model's error rate in that
    class; (3) a model trained from scratch, flagged and other samples drawn equally often.
    Features are scaled alike when the SVM is fitted and when it scores. MoDAD's warm start from a
    plain model and its augmented copies are left out. Callbacks of the settings act in (3).

    Args:
        q: of the generalised cross-entropy.
        nu: of the SVM.
        error_ratio: samples flagged in a class, per misclassified one.
    """

    def __init__(self, q: float = 0.7, nu: float = 0.5, error_ratio: float = 0.5) -> None:
        if not 0 < q <= 1:
            raise ValueError(f"TwoStep: q is {q}, expected 0 < q <= 1.")
        if not 0 < nu <= 1:
            raise ValueError(f"TwoStep: nu is {nu}, expected 0 < nu <= 1.")
        if not error_ratio > 0:
            raise ValueError(f"TwoStep: error_ratio is {error_ratio}, expected a number above 0.")
        self.q, self.nu, self.error_ratio = q, nu, error_ratio

    def fit(self, job: Job) -> Fitted:
        """Train twice."""
        biased = job.trainer("biased", criterion=partial(generalized_cross_entropy, q=self.q))
        biased.fit()
        features, predictions = bottleneck(biased, job.train)
        flagged, score = flag_conflicting(
            features, predictions, job.train.targets, self.nu, self.error_ratio
        )
        conflicting = job.train.conflicting
        found = {} if conflicting is None else detection(score, conflicting)
        debiased = job.trainer(callbacks=job.settings.callbacks)
        debiased.engine.run.resample("two_step", None, balance(flagged).to(debiased.device))
        debiased.fit()
        return Fitted([biased, debiased], found)


@torch.no_grad()
def bottleneck(trainer: Trainer, data: Images) -> tuple[Tensor, Tensor]:
    """Return the features `[N, D]` at the trained model's bottleneck and its predictions `[N]`."""
    taps = Taps(trainer.model, None, ["bottleneck"])
    features, predictions = [], []
    trainer.model.eval()
    for images in data.images.split(1000):
        taps.start()
        logits = trainer.model(Images.to_float(images.to(trainer.device)))
        features.append(taps.finish()["bottleneck"].cpu())
        predictions.append(logits.argmax(1).cpu())
    taps.remove()
    return torch.cat(features), torch.cat(predictions)


def flag_conflicting(
    features: Tensor, predictions: Tensor, targets: Tensor, nu: float, error_ratio: float
) -> tuple[Tensor, Tensor]:
    """Flag each class's most anomalous samples, as many as its error rate times `error_ratio`.

    Args:
        features: `[N, D]`.
        predictions: `[N]` of the biased model.
        targets: `[N]`.
        nu: of the one-class SVM.
        error_ratio: see `TwoStep`.

    Returns:
        flagged `[N]` bool, and a score `[N]`, high = conflicting, whose zero is a class's limit.
    """
    from sklearn.preprocessing import MinMaxScaler  # slow to import
    from sklearn.svm import OneClassSVM

    flagged, score = torch.zeros(len(targets), dtype=torch.bool), torch.zeros(len(targets))
    for target in targets.unique().tolist():
        rows = targets == target
        right = predictions[rows] == target
        own = features[rows].double().numpy()
        known = own[right.numpy()] if right.sum() > 1 else own
        scaler = MinMaxScaler().fit(known)
        machine = OneClassSVM(kernel="rbf", gamma="scale", nu=nu).fit(scaler.transform(known))
        value = machine.decision_function(scaler.transform(own))
        share = min(1.0, error_ratio * float((~right).double().mean()))
        limit = np.quantile(value, share)
        flagged[rows] = torch.from_numpy(value <= limit)
        score[rows] = torch.from_numpy(limit - value).float()
    return flagged, score


def balance(flagged: Tensor) -> Tensor:
    """Return sampling factors `[N]` that draw flagged and other samples equally often.

    Example:
        >>> balance(torch.tensor([True, False, False, False]))
        tensor([1.0000, 0.3333, 0.3333, 0.3333])
    """
    n_flagged = flagged.sum().clamp_min(1)
    n_others = (~flagged).sum().clamp_min(1)
    return torch.where(flagged, 1 / n_flagged, 1 / n_others)
