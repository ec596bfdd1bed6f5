"""Settings of a class-conditional diffusion model of one image set."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from typing import Any, get_args

import torch
from torch import Tensor

from online_debias.errors import positive
from online_debias.offline.ddb.denoiser import Denoiser, Prediction


class Diffusion:
    """Settings of a class-conditional diffusion model; `diffusion_training.fit` trains it.

    As in DDB (Ciranni et al., NeurIPS 2025), the class is withheld from some images, so that
    samples can be guided (Ho and Salimans, 2022); what is drawn of a class shows the bias that
    the class has in the training set. The defaults suit 28 pixels a side on a CPU, in minutes; the
    paper trains 100,000 steps on 64 pixels with attention, a patch of 1 and `epsilon`.

    On the CPU a run that was stopped goes on bit for bit from its last checkpoint.

    Args:
        channels: of each resolution level of the U-Net; each has half the side of the one before.
        layers: residual layers a level.
        attention: self-attention on the lowest level.
        patch: side of the squares of pixels that the U-Net sees as one place.
        steps: optimizer steps.
        batch_size: images a step.
        lr: peak learning rate of AdamW, which rises and falls in one cycle.
        timesteps: noise levels.
        condition_dropout: share of images whose class is not told.
        ema_decay: of the moving average of the weights, smaller in the first steps.
        prediction: what the network tells: the velocity, or the noise as in the paper.
        sampling_steps: calls of the network an image.
        guidance: 1 samples what was learnt; above, what is typical of a class is exaggerated.
        save_every: steps between two checkpoints.

    Raises:
        ValueError: an argument is out of range, or diffusers is not installed.

    Example:
        >>> Diffusion(steps=1000, guidance=2.0).settings["guidance"]
        2.0
    """

    def __init__(
        self,
        channels: Sequence[int] = (24, 48),
        layers: int = 1,
        attention: bool = False,
        patch: int = 2,
        steps: int = 600,
        batch_size: int = 32,
        lr: float = 6e-3,
        timesteps: int = 1000,
        condition_dropout: float = 0.1,
        ema_decay: float = 0.99,
        prediction: Prediction = "v_prediction",
        sampling_steps: int = 12,
        guidance: float = 1.0,
        save_every: int = 200,
    ) -> None:
        if importlib.util.find_spec("diffusers") is None:
            raise ValueError(
                "DDB needs the package diffusers, which is not installed: "
                "pip install 'online-debias[ddb]'."
            )
        if not channels or min(channels) < 1:
            raise ValueError(
                f"channels is {list(channels)}, expected a number above 0 for each level."
            )
        positive(layers=layers, patch=patch, steps=steps, batch_size=batch_size)
        positive(lr=lr, sampling_steps=sampling_steps, save_every=save_every)
        if timesteps < max(2, sampling_steps):
            raise ValueError(
                f"timesteps is {timesteps}, expected 2 or more, and no fewer than the "
                f"{sampling_steps} sampling_steps."
            )
        for name, share in (("condition_dropout", condition_dropout), ("ema_decay", ema_decay)):
            if not 0 <= share < 1:
                raise ValueError(f"{name} is {share}, expected 0 or more and below 1.")
        if prediction not in get_args(Prediction):
            known = " or ".join(get_args(Prediction))
            raise ValueError(f"prediction is {prediction!r}, expected {known}.")
        if not 0 <= guidance < math.inf:
            raise ValueError(f"guidance is {guidance}, expected a finite number >= 0.")
        self.network: dict[str, Any] = {
            "channels": list(channels),
            "layers": layers,
            "attention": attention,
            "patch": patch,
            "timesteps": timesteps,
            "prediction": prediction,
        }
        self.steps, self.batch_size, self.lr = steps, batch_size, lr
        self.condition_dropout, self.ema_decay = condition_dropout, ema_decay
        self.sampling_steps, self.guidance = sampling_steps, guidance
        self.save_every = save_every

    @property
    def training(self) -> dict[str, Any]:
        """What the weights depend on."""
        names = ("steps", "batch_size", "lr", "condition_dropout", "ema_decay")
        return {**self.network, **{name: getattr(self, name) for name in names}}

    @property
    def settings(self) -> dict[str, Any]:
        """What the samples depend on."""
        return {**self.training, "sampling_steps": self.sampling_steps, "guidance": self.guidance}

    def sample(
        self, model: Denoiser, targets: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw one image of each class in `targets`, `[B, C, H, W]` uint8, with these settings."""
        return model.sample(targets, self.sampling_steps, self.guidance, generator)
