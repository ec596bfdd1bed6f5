"""Grad-CAM: where in an image a model finds what speaks for a class."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def last_convolution(model: nn.Module) -> nn.Conv2d | None:
    """Return the last convolutional layer in the order of registration; None without any."""
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    return layers[-1] if layers else None


@torch.enable_grad()
def grad_cam(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Return what each place of an image says for its target, `[K, H, W]` in [0, 1].

    The channels of the last convolutional layer, weighed by the mean gradient that the target's
    logit has by them, summed, cut at 0, and scaled to the image and to the maximum 1 (Selvaraju et
    al., ICCV 2017). An image where nothing speaks for the target is 0 everywhere.

    Args:
        model: a classifier; it is left in evaluation mode.
        images: `[K, C, H, W]`, as the model takes them.
        targets: `[K]` int64, the class that is asked for.

    Raises:
        ValueError: the model has no convolutional layer, or makes no map of it.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> grad_cam(net, torch.rand(2, 3, 8, 8), torch.tensor([0, 3])).shape
        torch.Size([2, 8, 8])
    """
    layer = last_convolution(model)
    if layer is None:
        raise ValueError(
            f"{type(model).__name__} has no convolutional layer, and Grad-CAM shows one's "
            "activations: use a model that has."
        )
    seen: list[Tensor] = []

    def keep(module: nn.Module, args: object, output: Tensor) -> Tensor:
        seen.append(output)
        return output.clone()  # so that an activation in place leaves what is kept alone

    model.eval()
    hook = layer.register_forward_hook(keep)
    try:
        logits = model(images.detach().requires_grad_())  # reaches frozen layers, too
    finally:
        hook.remove()
    if not seen:
        raise ValueError(f"{type(model).__name__} does not call its last convolutional layer.")
    features = seen[-1]
    # A sum: in evaluation mode no image's logit depends on another image.
    (slope,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), features)
    cam = (slope.mean((2, 3), keepdim=True) * features).sum(1, keepdim=True).relu().detach()
    cam = F.interpolate(cam, images.shape[-2:], mode="bilinear", align_corners=False).squeeze(1)
    highest = cam.amax((1, 2), keepdim=True)
    return torch.where(highest > 0, cam / highest.clamp_min(1e-30), 0.0)
