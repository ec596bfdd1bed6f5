"""A class-conditional U-Net that takes noise out of images, and draws images out of noise."""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from online_debias.runtime.torchvision_compat import import_torchvision

Prediction = Literal["v_prediction", "epsilon"]


class Denoiser(nn.Module):
    """A diffusion model of uint8 images, given their class or no class.

    Noise is added in the steps of DDPM (Ho, Jain, Abbeel, NeurIPS 2020) with a cosine schedule;
    images are drawn in a few steps of the second-order DPM-Solver++ (Lu et al., 2022). An image is
    seen as squares of `patch` pixels a side, each one place with more channels, which makes small
    networks fast. Sides that do not divide are padded, and what is drawn is cropped.

    Args:
        shape: (C, H, W) of an image.
        n_classes: number of classes; one more stands for "no class".
        channels: of each resolution level; each has half the side of the one before.
        layers: residual layers a level.
        attention: self-attention on the lowest level.
        patch: side of the squares, 1 for plain pixels.
        timesteps: steps from an image to pure noise.
        prediction: what the network tells: the velocity (Salimans and Ho, ICLR 2022), which finds
            colours of large areas early in training, or the noise.

    Example:
        >>> model = Denoiser((3, 10, 10), 2, channels=(8, 8))
        >>> model.sample(torch.tensor([0, 1]), steps=2).shape
        torch.Size([2, 3, 10, 10])
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        n_classes: int,
        channels: Sequence[int] = (24, 48),
        layers: int = 1,
        attention: bool = False,
        patch: int = 2,
        timesteps: int = 1000,
        prediction: Prediction = "v_prediction",
    ) -> None:
        super().__init__()
        import_torchvision()  # diffusers imports it
        # Takes seconds to import. Its constructors have no annotations.
        diffusers: Any = importlib.import_module("diffusers")
        self.shape, self.n_classes, self.patch = shape, n_classes, patch
        levels, groups = len(channels), math.gcd(8, *channels)
        unit = patch * 2 ** (levels - 1)
        self.sides = tuple(-(-side // unit) * unit for side in shape[1:])
        lowest = "Attn" if attention else ""
        self.unet: nn.Module = diffusers.UNet2DModel(
            in_channels=shape[0] * patch**2,
            out_channels=shape[0] * patch**2,
            block_out_channels=tuple(channels),
            layers_per_block=layers,
            down_block_types=("DownBlock2D",) * (levels - 1) + (f"{lowest}DownBlock2D",),
            up_block_types=(f"{lowest}UpBlock2D",) + ("UpBlock2D",) * (levels - 1),
            add_attention=attention,
            attention_head_dim=groups,
            norm_num_groups=groups,
            num_class_embeds=n_classes + 1,
        )
        self.noise: Any = diffusers.DDPMScheduler(
            timesteps, beta_schedule="squaredcos_cap_v2", prediction_type=prediction
        )
        self._solvers: Any = diffusers.DPMSolverMultistepScheduler

    def loss(
        self, images: Tensor, targets: Tensor, dropout: float, generator: torch.Generator
    ) -> Tensor:
        """Return the mean squared error of one random noise level for each image.

        Args:
            images: `[B, C, H, W]` uint8.
            targets: `[B]` int64.
            dropout: share of images whose class is not told.
            generator: decides noise, levels and whose class is told; on the images' device.
        """
        clean = self._fold(images)
        noise = torch.empty_like(clean).normal_(generator=generator)
        device, size = clean.device, (len(clean),)
        time = torch.randint(len(self.noise), size, generator=generator, device=device)
        condition = drop(targets, self.n_classes, dropout, generator)
        noisy = self.noise.add_noise(clean, noise, time)
        wanted = noise
        if self.noise.config.prediction_type == "v_prediction":
            wanted = self.noise.get_velocity(clean, noise, time)
        return F.mse_loss(self._predict(noisy, time, condition), wanted)

    @torch.no_grad()
    def sample(
        self,
        targets: Tensor,
        steps: int = 12,
        guidance: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw one image of each class in `targets`.

        Args:
            targets: `[B]` int64.
            steps: calls of the network an image, twice as many where `guidance` is not 1.
            guidance: see `guided`.
            generator: decides the noise, on any device.

        Returns:
            `[B, C, H, W]` uint8, on the model's device.
        """
        device = next(self.parameters()).device
        height, width = (side // self.patch for side in self.sides)
        size = (len(targets), self.shape[0] * self.patch**2, height, width)
        source = device if generator is None else generator.device
        images = torch.randn(size, generator=generator, device=source).to(device)
        images = images.contiguous(memory_format=torch.channels_last)
        targets = targets.to(device)
        solver = self._solvers.from_config(self.noise.config, timestep_spacing="trailing")
        with warnings.catch_warnings():  # of numpy, about how diffusers makes arrays of tensors
            warnings.simplefilter("ignore", DeprecationWarning)
            solver.set_timesteps(steps, device=device)
        for time in solver.timesteps:
            told = self._predict(images, time, targets)
            if guidance != 1:
                nothing = torch.full_like(targets, self.n_classes)
                told = guided(told, self._predict(images, time, nothing), guidance)
            images = solver.step(told, time, images).prev_sample
        return self._unfold(images)

    def _predict(self, noisy: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        out: Tensor = self.unet(noisy, time, class_labels=condition).sample
        return out

    def _fold(self, images: Tensor) -> Tensor:
        height, width = self.shape[1:]
        values = images.float().div_(127.5).sub_(1)
        pad = (0, self.sides[1] - width, 0, self.sides[0] - height)
        values = F.pixel_unshuffle(F.pad(values, pad, mode="replicate"), self.patch)
        return values.contiguous(memory_format=torch.channels_last)

    def _unfold(self, values: Tensor) -> Tensor:
        pixels = F.pixel_shuffle(values, self.patch)[..., : self.shape[1], : self.shape[2]]
        return pixels.add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8).contiguous()


def guided(conditional: Tensor, unconditional: Tensor, guidance: float) -> Tensor:
    """Return unconditional + guidance (conditional - unconditional).

    Classifier-free guidance (Ho and Salimans, 2022): 0 forgets the class, 1 is what the network
    says of it, above 1 exaggerates what is typical of it.

    Example:
        >>> guided(torch.tensor([3.0]), torch.tensor([1.0]), guidance=2.0)
        tensor([5.])
    """
    return unconditional + guidance * (conditional - unconditional)


def drop(targets: Tensor, nothing: int, share: float, generator: torch.Generator) -> Tensor:
    """Return `targets`, `[B]`, with each replaced by `nothing` with probability `share`.

    Example:
        >>> drop(torch.tensor([0, 1]), 2, share=1.0, generator=torch.Generator())
        tensor([2, 2])
    """
    chance = torch.rand(len(targets), generator=generator, device=targets.device)
    return targets.where(chance >= share, nothing)
