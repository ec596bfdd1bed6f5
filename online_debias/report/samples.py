"""What a run knows of its training samples: their scores, and what training saw of them."""

from __future__ import annotations

from pathlib import Path

import torch

from online_debias.callbacks.monitors import Detection
from online_debias.data import Images
from online_debias.errors import ConfigError, plainly
from online_debias.report.features_score import TAP, score_features
from online_debias.report.finished import Finished
from online_debias.runs.pipeline import OneRun, Pipeline
from online_debias.runtime import checkpoint, scores_csv
from online_debias.runtime.device import device_of
from online_debias.runtime.scores_csv import Details, Scores


def remembered(
    detection: Detection, train: Images, pipeline: Pipeline, file: Path
) -> tuple[Scores | None, Details]:
    """Return the scores and all else that is known when a run ends.

    A method of several trainings wrote its scores, then trained by flags made of them; so what
    the file has is kept. Scores are None where nobody published any.

    Args:
        detection: the monitor of the run's last training.
        train: the training set.
        pipeline: what was trained.
        file: the run's scores.csv.

    Raises:
        ValueError: the file is damaged, or not of this training set.
    """
    targets = train.targets.cpu()
    details = Details(train.paths)
    if len(detection.drawn) == len(train):  # else the last training was on other images
        columns = detection.losses, detection.noise
        loss, noise = (None if column is None else column.cpu() for column in columns)
        details = Details(train.paths, detection.drawn.cpu(), loss, noise)
    if file.is_file() and not isinstance(pipeline, OneRun):
        found, _ = scores_csv.read_all(file)
        if not torch.equal(found.targets, targets):
            raise ValueError(
                f"{file} has {len(found.targets)} rows of other targets than the {len(train)} "
                "training samples; delete it, and resume the run to have it written anew."
            )
        return found, details
    score, group = detection.scores, detection.groups
    if score is None or len(score) != len(train):
        return None, details
    group = torch.full_like(targets, -1) if group is None else group.cpu()
    return Scores(targets, score.cpu(), group), details


def collect(run: Finished) -> tuple[Scores, Details, bool]:
    """Return the scores of a finished run's training samples, and all else that is known of them.

    Returns:
        Also whether they were made only now, of the finished model's features, because the method
        has no score of its own.

    Raises:
        ConfigError: the data changed since, or a file of the run is damaged or of another version.
        FileNotFoundError: the run lost its checkpoint.
    """
    path = run.folder / "last.pt"
    with plainly():
        state = checkpoint.load(path)
        detection = Detection()
        try:
            detection.load_state_dict(state["engine"]["monitors"]["Detection"])
        except KeyError as error:
            raise ConfigError(
                f"{path} does not tell what was seen of the training samples; it is of another "
                "version: train again."
            ) from error
    if len(detection.drawn) != len(run.train):
        raise ConfigError(
            f"{path} is of {len(detection.drawn)} training samples, but there are "
            f"{len(run.train)} now: give back the data that the run was trained on."
        )
    with plainly():
        file = run.folder / "scores.csv"
        found, details = remembered(detection, run.train, run.settings.pipeline, file)
        if found is not None:
            return found, details, False
        model, taps = run.model([TAP])
        device = device_of(run.settings.device)
        images = run.train.to(device)
        found = score_features(model.to(device), images, taps, run.settings.seed)
    return found, details, True
