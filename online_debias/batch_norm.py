"""Batch norm over the rows of all ranks, so that ranks train as one process with all the rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from online_debias import distributed


class RanksBatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.SyncBatchNorm` for the CPU, where torch has none; ranks have equally many rows."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise `[B, C, H, W]` by mean and variance over all ranks' rows."""
        if not self.training or distributed.world_size() == 1:
            return super().forward(input)
        variance, mean = torch.var_mean(input, (0, 2, 3), correction=0)
        means, variances = distributed.gather_rows(torch.stack([mean, variance])[None]).unbind(1)
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        if self.running_mean is not None and self.running_var is not None:
            n = input.numel() / input.shape[1] * distributed.world_size()
            self._remember(mean.detach(), variance.detach() * (n / (n - 1)))
        scale = (variance + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        return input * scale[:, None, None] + shift[:, None, None]

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        # None is torch's word for a plain average over all batches.
        part = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        assert self.running_mean is not None and self.running_var is not None
        self.running_mean.lerp_(mean, part)
        self.running_var.lerp_(variance, part)


def over_ranks(model: nn.Module, device: torch.device) -> nn.Module:
    """Return the model with its batch norms over all ranks; the model as it is when alone.

    Parameters and their names stay. On a GPU it is torch's own SyncBatchNorm.
    """
    if distributed.world_size() == 1:
        return model
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return converted
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, _converted(child))
    return model


def _converted(norm: nn.BatchNorm2d) -> RanksBatchNorm2d:
    ours = RanksBatchNorm2d(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    )
    for name, value in (*norm.named_parameters(), *norm.named_buffers()):
        setattr(ours, name, value)
    ours.training = norm.training
    return ours
