"""What a run knows of its training samples: their scores, and what training saw of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from online_debias.data import Images
from online_debias.errors import ConfigError, as_config_error
from online_debias.memory.samples import Samples
from online_debias.memory.shortcut import Shortcut
from online_debias.report.features_score import TAP, score_features
from online_debias.report.finished import Finished
from online_debias.runs.pipeline import OneRun, Pipeline
from online_debias.runtime import checkpoint, scores_csv
from online_debias.runtime.device import device_of
from online_debias.runtime.scores_csv import Details, Scores


def remembered(
    samples: Samples, train: Images, pipeline: Pipeline, file: Path
) -> tuple[Scores | None, Details]:
    """Return the scores and all else that is known when a run ends.

    A method of several trainings wrote its scores, then trained by flags made of them; so what
    the file has is kept. Scores are None where nobody published any.

    Args:
        samples: what the run's last training knows of its samples.
        train: the training set.
        pipeline: what was trained.
        file: the run's scores.csv.

    Raises:
        ValueError: the file is damaged, or not of this training set.
    """
    targets = train.targets.cpu()
    details = Details(train.paths)
    same = samples.n_samples == len(train)  # else the last training was on other images
    if same:
        noise = samples.values("noise").cpu() if "noise" in samples else None
        details = Details(train.paths, samples.drawn.cpu(), samples.losses.cpu(), noise)
    if file.is_file() and not isinstance(pipeline, OneRun):
        found, _ = scores_csv.read_all(file)
        if not torch.equal(found.targets, targets):
            raise ValueError(
                f"{file} has {len(found.targets)} rows of other targets than the {len(train)} "
                "training samples; delete it, and resume the run to have it written anew."
            )
        return found, details
    if not same or "conflict" not in samples:
        return None, details
    score, label = (samples.values(name, unless="noise") for name in ("conflict", "bias_label"))
    return Scores(targets, score.cpu(), label.nan_to_num(-1).long().cpu()), details


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
    with as_config_error():
        state = checkpoint.load(path)
        samples = saved_samples(state["engine"])
    if samples.n_samples != len(run.train):
        raise ConfigError(
            f"{path} is of {samples.n_samples} training samples, but there are "
            f"{len(run.train)} now: give back the data that the run was trained on."
        )
    with as_config_error():
        file = run.folder / "scores.csv"
        found, details = remembered(samples, run.train, run.settings.pipeline, file)
        if found is not None:
            return found, details, False
        if run.results.get("shortcut") is False:  # under another name of the signal
            return Scores.unknown(run.train.targets.cpu()), details, False
        model, taps = run.model([TAP])
        device = device_of(run.settings.device)
        images = run.train.to(device)
        found = score_features(model.to(device), images, taps, run.settings.seed)
    return found, details, True


def saved_samples(engine: Mapping[str, Any]) -> Samples:
    """Return the memory of samples from an engine's state, under the verdict of that run."""
    host = torch.device("cpu")
    verdict = Shortcut(host)
    verdict.load_state_dict(engine["shortcut"])
    samples = Samples(len(engine["samples"]["drawn"]), host, verdict)
    samples.load_state_dict(engine["samples"])
    return samples
