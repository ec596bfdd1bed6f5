"""HEX's projection: a batch's predictions without what another prediction of it can tell."""

from __future__ import annotations

import torch
from torch import Tensor


def project_out(value: Tensor, other: Tensor, ridge: float = 1e-6) -> Tensor:
    """Return (I - G (G^T G + r I)^-1 G^T) F, `[B, C]`: the part of F orthogonal to G's columns.

    Columns are vectors over the batch, so a batch must have more rows than G has columns for
    anything to be left.

    Args:
        value: F, `[B, C]`.
        other: G, `[B, K]`.
        ridge: r, relative to the mean square length of G's columns, so that columns that are alike
            do no harm.

    Example:
        >>> left = project_out(torch.tensor([[3.0], [4.0]]), torch.tensor([[1.0], [0.0]]))
        >>> left.round(decimals=4).T
        tensor([[0., 4.]])
    """
    gram = other.T @ other  # [K, K]
    scale = gram.diagonal().mean().clamp_min(1e-30)
    regular = gram + ridge * scale * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    # solve_ex, since solve waits for the device to see whether it worked.
    solution: Tensor = torch.linalg.solve_ex(regular, other.T @ value).result
    return value - other @ solution
