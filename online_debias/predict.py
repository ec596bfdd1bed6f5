"""A trained model's answers for a whole image set."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from online_debias.data.images import Images


@torch.no_grad()
def predict(
    model: nn.Module, data: Images, memory_format: torch.memory_format = torch.contiguous_format
) -> Tensor:
    """Return the logits `[N, C]`, on the CPU; the model is left in evaluation mode.

    Args:
        model: on the device of the images.
        data: the images.
        memory_format: that of the model.
    """
    model.eval()
    batches = (Images.to_float(images) for images in data.images.split(1000))
    logits = [model(inputs.contiguous(memory_format=memory_format)) for inputs in batches]
    return torch.cat(logits).cpu()
