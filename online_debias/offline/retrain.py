"""The last training of a method that found conflicting samples in trainings before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from online_debias.callbacks import PseudoLabels
from online_debias.data import Images
from online_debias.engine import Callback
from online_debias.functional.metrics import detection
from online_debias.runs.pipeline import PipelineResult, TrainingJob
from online_debias.runtime import distributed, scores_csv
from online_debias.training.settings import TrainingSettings
from online_debias.training.trainer import Trainer


def retrain(
    job: TrainingJob,
    earlier: Sequence[Trainer],
    score: Tensor,
    bias_label: Tensor,
    *,
    callbacks: Sequence[Callback] = (),
    rates: Tensor | None = None,
    start: Mapping[str, Tensor] | None = None,
    settings: TrainingSettings | None = None,
) -> PipelineResult:
    """Write what was found to scores.csv, then train with it and the callbacks of the settings.

    The callbacks find the signals `conflict`, 1 for samples with a score above 1/2 and 0 for
    others, and `bias_label`. So what a two-step method found can be given to any action.

    Args:
        job: the run.
        earlier: trainings before.
        score: `[N]` in [0, 1], above 1/2 = bias-conflicting.
        bias_label: `[N]` int64, pseudo bias labels.
        callbacks: further ones, of the method itself.
        rates: `[N]`, how often to draw each sample, relative to others; None draws evenly.
        start: weights to start from; fresh ones when None.
        settings: how to train; those of the job when None.
    """
    score, bias_label = score.float().cpu(), bias_label.long().cpu()
    file = job.folder / "scores.csv"
    if distributed.rank() == 0:
        scores_csv.write(file, scores_csv.Scores(job.train.targets.cpu(), score, bias_label))
    distributed.barrier()
    together = [PseudoLabels(file, threshold=0.5), *callbacks, *job.settings.callbacks]
    last = job.trainer(callbacks=together, settings=settings, start=start)
    if rates is not None:
        last.engine.run.resample("retrain", None, rates.to(last.device))
    last.fit()
    return PipelineResult([*earlier, last], detection_of(score, job.train))


def detection_of(score: Tensor, train: Images) -> dict[str, float]:
    """Return how well scores `[N]` find the conflicting training samples; {} if none are known."""
    conflicting = train.conflicting
    return {} if conflicting is None else detection(score, conflicting.cpu())
