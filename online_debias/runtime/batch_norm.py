"""Batch norm over the rows of all ranks, so that ranks train as one process with all the rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from online_debias.runtime import distributed

_TORCHS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class RanksBatchNorm(_BatchNorm):
    """`torch.nn.SyncBatchNorm` for the CPU, where torch has none; ranks have equally many rows."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise `[B, C, ...]` by moments over the rows of all ranks, in float32 at least."""
        if not self.training or distributed.world_size() == 1:
            return super().forward(input)
        rows = input.to(torch.promote_types(input.dtype, torch.float32))
        over = (0, *range(2, rows.ndim))
        variance, mean = torch.var_mean(rows, over, correction=0)
        means, variances = distributed.gather_rows(torch.stack([mean, variance])[None]).unbind(1)
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        if self.running_mean is not None and self.running_var is not None:
            n = rows.numel() / rows.shape[1] * distributed.world_size()
            self._remember(mean.detach(), variance.detach() * (n / (n - 1)))
        scale = (variance + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        places = (-1, *(1,) * (rows.ndim - 2))
        return (rows * scale.view(places) + shift.view(places)).to(input.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        """Take rows of any shape, as SyncBatchNorm does."""

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

    Parameters and their names stay. On a GPU it is torch's own SyncBatchNorm; on a CPU classes that
    are derived from torch's batch norms stay as they are, since they may do more.
    """
    if distributed.world_size() == 1:
        return model
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return converted
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm) and type(child) in _TORCHS:
                setattr(module, name, _converted(child))
    return model


def _converted(norm: _BatchNorm) -> RanksBatchNorm:
    ours = RanksBatchNorm(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    )
    for name, value in (*norm.named_parameters(), *norm.named_buffers()):
        setattr(ours, name, value)
    ours.training = norm.training
    return ours
