"""How firmly a model sides with the biased view against a row's label."""

from __future__ import annotations

import torch
from torch import Tensor


def doubt(logits: Tensor, targets: Tensor, seen: Tensor) -> Tensor:
    """Return p(seen) / (p(seen) + p(target)), `[B]`: 1/2 where the model wavers between them.

    Args:
        logits: `[B, C]`.
        targets: `[B]` int64, the labels.
        seen: `[B]` int64, the classes that the biased view sees in the rows.

    Example:
        >>> logits = torch.tensor([[0.0, 3.0, 1.0]]).repeat(2, 1)
        >>> doubt(logits, targets=torch.tensor([0, 1]), seen=torch.tensor([1, 2]))
        tensor([0.9526, 0.1192])
    """
    rows = torch.stack([seen, targets], 1)
    for_view, for_label = logits.gather(1, rows).unbind(1)
    return torch.sigmoid(for_view - for_label)
