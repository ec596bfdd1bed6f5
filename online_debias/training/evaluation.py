"""How a model in training does on a split: accuracies, groups and pseudo-groups."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from online_debias.data.images import Images
from online_debias.engine import Engine
from online_debias.functional.metrics import Report, group_accuracies, group_metrics
from online_debias.training.pseudo_groups import pseudo_group_metrics, watched


def measure(
    split: str, engine: Engine, model: nn.Module, data: Images, memory_format: torch.memory_format
) -> Report:
    """Return the model's report on a split; on "validation" also by pseudo-groups.

    Those need a callback with a biased view, and cost a look at the features of the same pass.
    With ranks each measures the whole split.

    Args:
        split: name of the split.
        engine: of the training; it is asked what the biased view sees, and stays as it is.
        model: on the device of the images; it is left in evaluation mode.
        data: the images.
        memory_format: that of the model.
    """
    with ExitStack() as stack:
        view = stack.enter_context(watched(engine, model)) if split == "validation" else []
        predictions = predict(model, data, memory_format).argmax(1)
    targets = data.targets.cpu()
    bias = None if data.bias is None else data.bias.cpu()
    metrics = group_metrics(predictions, targets, bias)
    if view:
        metrics |= pseudo_group_metrics(predictions, targets, torch.cat(view))
    groups = {} if bias is None else group_accuracies(predictions, targets, bias)
    return Report(split, engine.run.step, engine.run.epoch, metrics, groups)


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
