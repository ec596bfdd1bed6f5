"""Score how likely each sample is bias-conflicting, with an offline detector fitted every epoch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from online_debias.detectors.external.by_path import check_detector, class_at, seeded
from online_debias.engine import Batch, Callback, Run
from online_debias.functional.by_index import last_by_index
from online_debias.functional.scores.decision_score import decision_score
from online_debias.runtime import seeds

SUITED: dict[str, dict[str, Any]] = {"sklearn.svm.OneClassSVM": {"nu": 0.1}}


class OfflineScore(Callback):
    """Publishes the scores of a scikit-learn or PyOD detector, of the epochs before.

    The anomaly detection of MoDAD (Pastore et al., WACV 2025) inside the run: at the end of an
    epoch one detector a class is fitted to the features that the epoch showed of the class, each
    sample once and standardised, and scores them. What is kept and published is a number a sample,
    so a score is one epoch old, or up to `every`; it is 0 in the first epoch and for samples not
    seen yet. Fitting stops training for its time.

    Scores of all detectors have 1/2 on the detector's own boundary: decision_function 0 in
    scikit-learn, threshold_ in PyOD. Beyond it they rise as a logistic function of the decision
    value over its median distance to the boundary in the class, see
    `functional.scores.decision_score`. A class of less than two distinct rows has the scores 0.

    Signals: provides `conflict` in [0, 1] (argument `signal`); mixed rows are published as 0.
    Records: `detect/mean_score`, the mean score of the batch.

    Args:
        detector: import path of the class, of scikit-learn (OneClassSVM, IsolationForest,
            LocalOutlierFactor with novelty=True, EllipticEnvelope, ...) or PyOD.
        arguments: for the detector; what it takes as `random_state` is seeded by the run unless
            given. None: nu 0.1 for OneClassSVM, the detector's own defaults else.
        tap: name of the features.
        signal: name of the published score.
        every: epochs between two fits, at least 1.
        name: unique in a run.

    Raises:
        ValueError: there is no such class, it is no anomaly detector that can score new rows, it
            does not take the arguments, or `every` is out of range.

    Example:
        >>> OfflineScore("sklearn.ensemble.IsolationForest", {"n_estimators": 50}).taps
        ('shallow',)
    """

    features: Tensor
    targets: Tensor
    seen: Tensor
    scores: Tensor

    def __init__(
        self,
        detector: str = "sklearn.svm.OneClassSVM",
        arguments: dict[str, Any] | None = None,
        tap: str = "shallow",
        signal: str = "conflict",
        every: int = 1,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.expect("every", every, every >= 1, "at least 1 epoch")
        self.kind = class_at("OfflineScore", detector)
        self.arguments = SUITED.get(detector, {}) if arguments is None else dict(arguments)
        check_detector("OfflineScore", detector, self.kind, self.arguments)
        self.taps, self.provides = (tap,), (signal,)
        self.tap, self.signal, self.every = tap, signal, every

    def setup(self, run: Run) -> None:
        """Make room for what an epoch shows of each sample, and for its score."""
        # One row more, for rows that are not to be remembered, as in `SampleMemory`.
        rows = run.n_samples + 1
        self.register_buffer("features", torch.zeros(rows, run.width(self.tap)))
        self.register_buffer("targets", torch.zeros(rows, dtype=torch.long))
        self.register_buffer("seen", torch.zeros(rows, dtype=torch.bool))
        self.register_buffer("scores", torch.zeros(rows))

    def on_features(self, batch: Batch) -> None:
        """Collect in an epoch that ends with a fit, and publish."""
        if (batch.epoch + 1) % self.every == 0:
            self._collect(batch)
        batch.publish(self.signal, self.scores[batch.index], ~batch.mixed)
        self.run.record("detect/mean_score", batch.signals[self.signal].mean())

    def on_epoch_end(self, run: Run) -> None:
        """Fit and score, class by class."""
        if (run.epoch + 1) % self.every:
            return
        for target in range(run.n_classes):
            rows = (self.seen[:-1] & (self.targets[:-1] == target)).nonzero().squeeze(1)
            own = self.features[rows].double().cpu()
            if len(own) < 2 or bool((own == own[0]).all()):
                self.scores[rows] = 0.0
                continue
            try:
                score = decision_score(_excess(self._new(target), own))
            except Exception as error:
                if hasattr(error, "add_note"):  # from Python 3.11 on
                    error.add_note(f"fitting {self.kind.__name__} to {len(own)} rows of a class")
                raise
            self.scores[rows] = score.to(self.scores)
        self.seen.zero_()

    def _collect(self, batch: Batch) -> None:
        slot = torch.where(batch.mixed, len(self.seen) - 1, batch.index)
        last = last_by_index(slot, torch.arange(len(slot), device=slot.device))
        self.features.index_copy_(0, slot, batch.features[self.tap].detach()[last])
        self.targets.index_copy_(0, slot, batch.targets[last])
        self.seen.index_fill_(0, slot, True)

    def _new(self, target: int) -> Any:
        seed = seeds.derive(self.run.seed, self.name, self.run.epoch, target)
        return self.kind(**seeded(self.kind, self.arguments, seed))


def _excess(model: Any, x: Tensor) -> Tensor:
    """Fit to rows `[n, D]`, standardised; return how far each is beyond the boundary, `[n]`."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    deviation = x.std(0, correction=0)
    rows = ((x - x.mean(0)) / torch.where(deviation > 0, deviation, 1.0)).numpy()
    with threadpool_limits(1):  # several threads would add up in any order
        model.fit(rows)
        if hasattr(model, "decision_scores_"):  # PyOD: high is anomalous
            return torch.as_tensor(model.decision_scores_ - model.threshold_, dtype=x.dtype)
        # scikit-learn: high is normal.
        return -torch.as_tensor(model.decision_function(rows), dtype=x.dtype)
