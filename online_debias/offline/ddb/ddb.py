"""DDB: a diffusion model learns the bias, a classifier of its images amplifies it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from online_debias.callbacks import BiasAmplifier
from online_debias.data import Images
from online_debias.detectors import conflict
from online_debias.errors import ConfigError, expect
from online_debias.functional.metrics import group_metrics
from online_debias.functional.scores.loss_filter import loss_filter
from online_debias.offline.ddb.diffusion import Diffusion
from online_debias.offline.ddb.synthetic import synthesize
from online_debias.offline.retrain import detection_of, retrain
from online_debias.runs.pipeline import Pipeline, PipelineResult, TrainingJob
from online_debias.runtime import distributed
from online_debias.runtime.checkpoint import save_weights
from online_debias.runtime.device import device_of
from online_debias.training.evaluation import predict
from online_debias.training.trainer import Trainer


class DDB(Pipeline):
    """Trains a frozen bias amplifier on synthetic images; its errors tell who conflicts.

    Diffusing DeBias (Ciranni et al., NeurIPS 2025), in three trainings: (1) a class-conditional
    diffusion model on the biased training set; what it draws of a class is almost always
    bias-aligned. (2) "amplifier", a classifier trained on such images alone: it has seen no
    conflicting training image, so it cannot have memorised one. (3) the model. Recipe 1 makes
    pseudo-groups of what the amplifier gets wrong, for the callbacks of the settings (method
    `ddb-1`: GroupDRO). Recipe 2 weighs each row by the amplifier's share in the sum of both losses
    (method `ddb-2`).

    The diffusion model and its images are kept in a folder, which several runs on the same data can
    share; each is charged what it cost. figures in results.json: accuracies of the amplifier on
    aligned and conflicting training samples, and those of `memorisation.memorisation`.

    Args:
        recipe: 1 or 2.
        diffusion: the diffusion model and its training.
        per_class: synthetic images of a class.
        synthetic: folder of the diffusion model and its images; in the run folder when None.
        amplifier_on: "synthetic" images; "real" trains the amplifier on the training set instead,
            without a diffusion model, the paper's ablation.
        amplifier_epochs: of (2); those of the settings when None.
        errors: of recipe 1: "filtered" takes misclassified samples whose loss is far above the
            others', "all" takes all misclassified ones (the paper's "err. set").
        gamma: far means this many standard deviations above the mean.

    Raises:
        ValueError: an argument is out of range, or diffusers is not installed.
    """

    def __init__(
        self,
        recipe: Literal[1, 2] = 1,
        diffusion: Diffusion | None = None,
        per_class: int = 1000,
        synthetic: Path | None = None,
        amplifier_on: Literal["synthetic", "real"] = "synthetic",
        amplifier_epochs: int | None = None,
        errors: Literal["filtered", "all"] = "filtered",
        gamma: float = 3.0,
    ) -> None:
        expect(self, "recipe", recipe, recipe in (1, 2), "1 or 2")
        expect(self, "per_class", per_class, per_class >= 1, "at least 1 image")
        if amplifier_epochs is not None:
            expect(self, "amplifier_epochs", amplifier_epochs, amplifier_epochs >= 1, "at least 1")
        expect(self, "gamma", gamma, 0 <= gamma < math.inf, "a finite number >= 0")
        self.diffusion = (
            Diffusion() if diffusion is None and amplifier_on == "synthetic" else diffusion
        )
        self.recipe, self.per_class, self.synthetic = recipe, per_class, synthetic
        self.amplifier_on, self.amplifier_epochs = amplifier_on, amplifier_epochs
        self.errors, self.gamma = errors, gamma

    def fit(self, job: TrainingJob) -> PipelineResult:
        """Train the diffusion model, the amplifier and the model."""
        figures: dict[str, float] = {}
        images = job.train
        if self.amplifier_on == "synthetic":
            images, figures = self._synthetic(job)
        epochs = self.amplifier_epochs or job.settings.epochs
        settings = replace(job.settings, epochs=epochs)
        amplifier = job.trainer("amplifier", settings=settings, data=images)
        amplifier.fit()
        with job.between_trainings():
            logits = predict(amplifier.model, job.train.to(amplifier.device), amplifier.format)
        result = self._recipe(job, amplifier, logits)
        result.figures |= figures | amplifier_accuracies(logits, job)
        return result

    def _synthetic(self, job: TrainingJob) -> tuple[Images, dict[str, float]]:
        assert self.diffusion is not None
        settings = job.settings
        held_out = job.evaluate_on.get("validation")
        try:
            made = synthesize(
                self.diffusion,
                job.train,
                held_out,
                self.synthetic or job.folder / "diffusion",
                device=device_of(settings.device),
                seed=settings.seed,
                per_class=self.per_class,
                title=f"{settings.method} (diffusion)",
            )
        except ValueError as error:
            raise ConfigError(str(error)) from error
        job.beside.passes += 1
        job.beside.seconds += made.seconds
        job.beside.samples += made.samples
        job.beside.parameters += made.parameters
        return made.images, dict(made.figures)

    def _recipe(self, job: TrainingJob, amplifier: Trainer, logits: Tensor) -> PipelineResult:
        targets = job.train.targets.cpu()
        score, group = conflict(logits.softmax(1), targets), logits.argmax(1)
        if self.recipe == 1:
            chosen = group != targets
            if self.errors == "filtered":
                losses = F.cross_entropy(logits, targets, reduction="none")
                chosen &= loss_filter(losses, self.gamma)
            # The score keeps its order on both sides of 1/2, where the flags are.
            score = torch.where(chosen, 0.5 + score / 2, score / 2)
            return retrain(job, [amplifier], score, torch.where(chosen, group, targets))
        weights = job.folder / "amplifier" / "model.safetensors"
        if distributed.rank() == 0:
            save_weights(weights, amplifier.model)
        distributed.barrier()
        second = BiasAmplifier(weights, job.settings.model)
        last = job.trainer(callbacks=[second, *job.settings.callbacks])
        last.fit()
        return PipelineResult([amplifier, last], detection_of(score, job.train))


def amplifier_accuracies(logits: Tensor, job: TrainingJob) -> dict[str, float]:
    """Return the amplifier's accuracy on aligned and on conflicting training samples."""
    if job.train.bias is None:
        return {}
    found = group_metrics(logits.argmax(1), job.train.targets.cpu(), job.train.bias.cpu())
    kinds = ("aligned", "conflicting")
    names = {f"accuracy_{kind}": f"amplifier_{kind}" for kind in kinds}
    return {names[name]: value for name, value in found.items() if name in names}
