"""Score how likely each sample is bias-conflicting, with a river detector beside the training."""

from __future__ import annotations

import copy
import inspect
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from online_debias.detectors.external.by_path import class_at, make, refused
from online_debias.detectors.external.plain_state import encode
from online_debias.detectors.external.river_models import RiverModels
from online_debias.engine import Batch, Callback, Run, SampleMemory
from online_debias.runtime import seeds

SUITED: dict[str, dict[str, Any]] = {
    "river.anomaly.HalfSpaceTrees": {"n_trees": 25, "height": 6, "window_size": 50}
}


@dataclass
class Waiting:
    """A batch whose scores are not applied yet."""

    index: Tensor  # [B]
    plain: Tensor  # [B] bool
    scores: Future[Tensor]  # [B], on the CPU


class RiverScore(Callback):
    """Publishes the scores of a river anomaly detector, `lag` batches late.

    One detector a class scores each row, then learns it, in a thread of its own: river works row by
    row, and training goes on meanwhile. Scores of a batch are applied exactly `lag` steps later, so
    a run is reproduced bit for bit however fast the thread is; training waits only where it is more
    than that behind. What is published for a row is the last score known of its sample: one of an
    earlier epoch as a rule, 0 if there is none; with `lag` 0 the row's own, waited for.

    Features are mapped to [0, 1] and scores that are not there are too, see
    `detectors.river_models`. river's detectors know no weights: of rows drawn more often than
    uniformly, by a factor of `rate`, a share of 1 / rate is learned. A high score is taken to be
    anomalous. The scores of half-space trees are only ordinal: 1/2 has no meaning there.

    Signals: provides `conflict` in [0, 1] (argument `signal`); mixed rows are published as 0.
    Records: `detect/mean_score`, the mean score of the batch; `detect/river_lag`, how many batches
    late its scores will be applied.

    Args:
        detector: import path of the class; one that learns from features alone.
        arguments: for the detector; what it takes as `seed` differs from class to class. None: 25
            trees of height 6 and windows of 50 rows for HalfSpaceTrees (river's own 250 rows, of
            one class, take long to come together), the detector's own defaults else.
        tap: name of the features.
        lag: steps between a batch and the use of its scores, at least 0.
        signal: name of the published score.
        name: unique in a run.

    Raises:
        ValueError: there is no such class, it is no anomaly detector of river's that learns from
            features alone, it does not take the arguments, its state cannot be kept in a
            checkpoint without pickle, or `lag` is out of range.

    Example:
        >>> RiverScore(arguments={"n_trees": 5, "height": 4}, lag=2).provides
        ('conflict',)
    """

    def __init__(
        self,
        detector: str = "river.anomaly.HalfSpaceTrees",
        arguments: dict[str, Any] | None = None,
        tap: str = "shallow",
        lag: int = 4,
        signal: str = "conflict",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.expect("lag", lag, lag >= 0, "a number of steps >= 0")
        self.kind = class_at("RiverScore", detector)
        self.arguments = SUITED.get(detector, {}) if arguments is None else dict(arguments)
        self.allowed = ("river.", f"{self.kind.__module__.partition('.')[0]}.")
        self.bounded = _check(detector, self.kind, self.arguments, self.allowed)
        self.taps, self.provides = (tap,), (signal,)
        self.tap, self.signal, self.lag = tap, signal, lag
        self._waiting: deque[Waiting] = deque()
        self._worker: ThreadPoolExecutor | None = None

    def setup(self, run: Run) -> None:
        """Make the detectors, and the memory of scores."""
        self.known = SampleMemory(run.n_samples)
        self._waiting.clear()  # of a run before
        models = [self._new(run.seed, target) for target in range(run.n_classes)]
        self.models = RiverModels(models, self.bounded, self.allowed)

    def on_features(self, batch: Batch) -> None:
        """Hand the batch to the thread, apply the scores that are due, publish."""
        for waiting in self._waiting:
            if waiting.scores.done():
                waiting.scores.result()  # raises what was raised in the thread
        self._waiting.append(self._submit(batch))
        while len(self._waiting) > self.lag:
            due = self._waiting.popleft()
            scores = due.scores.result().to(batch.index.device, non_blocking=True)
            self.known.update(due.index, scores, due.plain)
        score = self.known.read(batch.index).nan_to_num()
        batch.publish(self.signal, score, ~batch.mixed)
        self.run.record("detect/mean_score", batch.signals[self.signal].mean())
        self.run.record("detect/river_lag", float(self.lag))

    def on_fit_end(self, run: Run) -> None:
        """End the thread, when it has finished."""
        if self._worker is not None:
            self._worker.shutdown()
            self._worker = None
        self._settle()

    def _submit(self, batch: Batch) -> Waiting:
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, self.name)
        plain = ~batch.mixed
        stream = self.run.generator(self.name)
        drawn = torch.rand(len(batch), generator=stream, device=plain.device)
        learns = plain & (drawn < 1 / batch.rate)
        # Copies, since who owns the tensors may use their memory again in the next step.
        index, x, targets = (
            value.detach().clone()
            for value in (batch.index, batch.features[self.tap], batch.targets)
        )
        ready = None
        if x.is_cuda:
            ready = torch.cuda.Event()
            ready.record()
        where = f"in the thread of {self.name!r}, on the batch of step {batch.step}"
        # Not a method of this callback: a thread must not keep it, and so itself, alive.
        scores = self._worker.submit(_score, self.models, (x, targets, plain, learns), ready, where)
        return Waiting(index, plain, scores)

    def _settle(self) -> None:
        for waiting in self._waiting:
            waiting.scores.result()

    def _new(self, seed: int, target: int) -> Any:
        arguments = copy.deepcopy(self.arguments)
        if "seed" in inspect.signature(self.kind).parameters:
            given = arguments.get("seed", seed)
            arguments["seed"] = seeds.derive(given, self.name, target) % 2**32
        return self.kind(**arguments)

    def get_extra_state(self) -> dict[str, Any]:
        """Return the detectors, and the scores that wait to be applied; waits for the thread."""
        self._settle()
        waiting = [(one.index, one.plain, one.scores.result()) for one in self._waiting]
        return {"models": self.models.state(), "waiting": waiting}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_extra_state` returned."""
        self._settle()
        self.models.load(state["models"])
        self._waiting.clear()
        for index, plain, scores in state["waiting"]:
            done: Future[Tensor] = Future()
            done.set_result(scores.cpu())
            device = self.run.device
            self._waiting.append(Waiting(index.to(device), plain.to(device), done))


def _score(
    models: RiverModels, rows: tuple[Tensor, ...], ready: torch.cuda.Event | None, where: str
) -> Tensor:
    """Copy rows to the host and score them; runs in the thread."""
    try:
        if ready is None:
            return models.step(*(value.cpu() for value in rows))
        side = torch.cuda.Stream(rows[0].device)
        with torch.cuda.stream(side):  # does not wait for the steps that were started since
            side.wait_event(ready)
            rows = tuple(value.cpu() for value in rows)
        return models.step(*rows).pin_memory()
    except Exception as error:
        if hasattr(error, "add_note"):  # from Python 3.11 on
            error.add_note(where)
        raise


def _check(path: str, kind: type, arguments: dict[str, Any], allowed: tuple[str, ...]) -> bool:
    """Refuse what cannot work; return whether the scores are in [0, 1] as they are."""
    from river import anomaly, base  # slow to import

    if not issubclass(kind, base.AnomalyDetector | base.AnomalyFilter):
        raise ValueError(
            f"RiverScore: detector is {path!r}, expected an anomaly detector of river's that "
            "learns from features alone."
        )
    model = make("RiverScore", kind, copy.deepcopy(arguments))
    _check_state(model, allowed)
    try:
        for row in ({0: 0.2, 1: 0.7}, {0: 0.6, 1: 0.4}):
            float(model.score_one(row))
            model.learn_one(row)
    except Exception as error:
        raise refused("RiverScore", kind, arguments, error) from error
    _check_state(model, allowed)
    return issubclass(kind, anomaly.HalfSpaceTrees)


def _check_state(model: Any, allowed: tuple[str, ...]) -> None:
    try:
        encode(model, allowed)
    except ValueError as error:
        raise ValueError(f"RiverScore: {error}") from error
