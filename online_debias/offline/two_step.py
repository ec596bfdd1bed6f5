"""MoDAD: a biased model, anomaly detection in its features, balanced fine-tuning."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from online_debias.data import Images
from online_debias.detectors.external.by_path import check_detector, class_at, make, seeded
from online_debias.errors import ConfigError, expect
from online_debias.functional.inputs.augment import mild
from online_debias.functional.losses.gce import generalized_cross_entropy
from online_debias.functional.scores.decision_score import decision_score
from online_debias.offline.retrain import retrain
from online_debias.runs.pipeline import Pipeline, PipelineResult, TrainingJob
from online_debias.runtime import seeds
from online_debias.taps.taps import Tap, Taps
from online_debias.training.trainer import Trainer

SUITED: dict[str, dict[str, Any]] = {"sklearn.svm.OneClassSVM": {"nu": 0.5}}


class TwoStep(Pipeline):
    """Finds conflicting samples with a biased model, then fine-tunes a plain one on balanced draws.

    MoDAD (Pastore et al., WACV 2025), in three trainings: (1) "biased", with generalised
    cross-entropy; (2) "plain"; (3) the plain model goes on, flagged and other samples drawn equally
    often, with the callbacks of the settings: the method `two-step` has three varied copies of
    every flagged row. Samples are flagged between (2) and (3): for each class a detector is fitted
    to the bottleneck features of those that the biased model classifies correctly, and the most
    anomalous ones are flagged, as many as the model's errors in that class times `error_ratio`.

    The released code fits the detector to features as they are and applies it to features scaled to
    [0, 1]; here both are scaled, unless `fit_unscaled`. It also reads errors and features from two
    different random views of each image (`random_views`). Its weights in the loss, the shares of
    flagged and other rows in a batch, are about 1/2 for both and left out.

    Args:
        detector: import path of a detector of scikit-learn (OneClassSVM, IsolationForest, ...) or
            PyOD.
        arguments: for the detector; None: nu .5 for OneClassSVM, the detector's own defaults else.
        q: of the generalised cross-entropy.
        error_ratio: samples flagged in a class, per misclassified one.
        start: "plain" fine-tunes the plain model; "scratch" leaves (2) out.
        lr_ratio: peak learning rate of (3), relative to that of the settings.
        balance: draw flagged and other samples equally often; without, the callbacks decide.
        fit_unscaled, random_views: as in the released code.
        flags: "true" flags by the annotation and leaves (1) out, an oracle that shows what perfect
            detection would bring.

    Raises:
        ValueError: an argument is out of range, or the detector is none.
    """

    def __init__(
        self,
        detector: str = "sklearn.svm.OneClassSVM",
        arguments: dict[str, Any] | None = None,
        q: float = 0.7,
        error_ratio: float = 0.5,
        start: Literal["plain", "scratch"] = "plain",
        lr_ratio: float = 1.0,
        balance: bool = True,
        fit_unscaled: bool = False,
        random_views: bool = False,
        flags: Literal["found", "true"] = "found",
    ) -> None:
        expect(self, "q", q, 0 < q <= 1, "0 < q <= 1")
        expect(self, "error_ratio", error_ratio, error_ratio > 0, "a number above 0")
        expect(self, "lr_ratio", lr_ratio, lr_ratio > 0, "a number above 0")
        self.kind = class_at("TwoStep", detector)
        self.arguments = SUITED.get(detector, {}) if arguments is None else dict(arguments)
        check_detector("TwoStep", detector, self.kind, self.arguments)
        self.q, self.error_ratio = q, error_ratio
        self.start, self.lr_ratio, self.balance = start, lr_ratio, balance
        self.fit_unscaled, self.random_views, self.flags = fit_unscaled, random_views, flags

    def fit(self, job: TrainingJob) -> PipelineResult:
        """Train, find, fine-tune."""
        biased = None
        if self.flags == "found":
            loss = partial(generalized_cross_entropy, q=self.q)
            biased = job.trainer("biased", settings=replace(job.settings, criterion=loss))
            biased.fit()
            with job.between_trainings():
                score, bias_label = self._find(job, biased)
        else:
            score, bias_label = true_flags(job.train)
        plain = None
        if self.start == "plain":
            plain = job.trainer("plain")
            plain.fit()
        result = retrain(
            job,
            [trainer for trainer in (biased, plain) if trainer],
            score,
            bias_label,
            rates=balance(score > 0.5) if self.balance else None,
            start=plain.model.state_dict() if plain else None,
            settings=replace(job.settings, lr=job.settings.lr * self.lr_ratio),
        )
        result.oracle = self.flags == "true"
        return result

    def _find(self, job: TrainingJob, biased: Trainer) -> tuple[Tensor, Tensor]:
        seed, targets = job.settings.seed, job.train.targets.cpu()
        views: list[torch.Generator | None] = [None, None]
        if self.random_views:
            views = [seeds.generator(biased.device, seed, "view", n) for n in range(2)]
        tap = job.settings.taps.get("bottleneck")
        _, first = bottleneck(biased, job.train, views[0], tap)
        features, predictions = bottleneck(biased, job.train, views[1], tap)
        score = torch.zeros(len(targets))
        for target in range(len(job.train.classes)):
            rows = targets == target
            score[rows] = class_score(
                self._detector(seed, target),
                features[rows],
                predictions[rows] == target,
                self.error_ratio * float((first[rows] != target).double().mean()),
                self.fit_unscaled,
            )
        return score, torch.where(score > 0.5, predictions, targets)

    def _detector(self, seed: int, target: int) -> Any:
        own = seeds.derive(seed, "two_step", target)
        return make("TwoStep", self.kind, seeded(self.kind, self.arguments, own))


def class_score(
    detector: Any, features: Tensor, right: Tensor, share: float, fit_unscaled: bool = False
) -> Tensor:
    """Return scores `[n]` of the samples of a class, above 1/2 for the flagged ones.

    Flagged are those at or above the percentile of the anomaly that leaves `share` of them above,
    so at least one. The others' scores tell how far they are from it.

    Args:
        detector: a new one of scikit-learn or PyOD.
        features: `[n, D]`.
        right: `[n]` bool, samples that the detector is fitted to; all of them if there is only one.
        share: of the samples to flag, at most 1.
        fit_unscaled: see `TwoStep`.
    """
    from sklearn.preprocessing import MinMaxScaler  # slow to import
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    own = features.double().numpy()
    known = own[right.numpy()] if right.sum() > 1 else own
    scaler = MinMaxScaler().fit(known)
    with threadpool_limits(1):  # several threads would add up in any order
        detector.fit(known if fit_unscaled else scaler.transform(known))
        value = detector.decision_function(scaler.transform(own))
    anomaly = value if hasattr(detector, "decision_scores_") else -value  # PyOD: high is anomalous
    excess = torch.from_numpy(anomaly - np.quantile(anomaly, 1 - min(1.0, share)))
    score = decision_score(excess)
    return torch.where(excess >= 0, score.clamp_min(0.5 + 1e-4), score.clamp_max(0.5)).float()


def true_flags(train: Images) -> tuple[Tensor, Tensor]:
    """Return the score `[N]`, 1 for annotated conflicting samples and 0, and the bias `[N]`."""
    if train.bias is None or train.conflicting is None:
        raise ConfigError("TwoStep: flags is 'true', but the training set has no bias labels.")
    return train.conflicting.float().cpu(), train.bias.cpu()


@torch.no_grad()
def bottleneck(
    trainer: Trainer,
    data: Images,
    view: torch.Generator | None = None,
    tap: str | Tap | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the trained model's features `[N, D]` at the bottleneck and predictions `[N]`.

    Args:
        trainer: of the model.
        data: the images, in any place.
        view: draws a mild random variation of each image; None takes them as they are.
        tap: where the bottleneck is; None is the input of the last Linear.
    """
    if isinstance(tap, Tap):
        tap = replace(tap, transform=None)  # the trainer's own hook has applied it
    reader = Taps(trainer.model, {"bottleneck": tap} if tap else None, ["bottleneck"])
    features, predictions = [], []
    trainer.model.eval()
    for images in data.images.split(1000):
        inputs = Images.to_float(images.to(trainer.device))
        inputs = inputs if view is None else mild(inputs, view)
        reader.start()
        logits = trainer.model(inputs.contiguous(memory_format=trainer.format))
        features.append(reader.finish()["bottleneck"].cpu())
        predictions.append(logits.argmax(1).cpu())
    reader.remove()
    return torch.cat(features), torch.cat(predictions)


def balance(flagged: Tensor) -> Tensor:
    """Return sampling factors `[N]` that draw flagged and other samples equally often.

    Example:
        >>> balance(torch.tensor([True, False, False, False]))
        tensor([1.0000, 0.3333, 0.3333, 0.3333])
    """
    n_flagged = flagged.sum().clamp_min(1)
    n_others = (~flagged).sum().clamp_min(1)
    return torch.where(flagged, 1 / n_flagged, 1 / n_others)
