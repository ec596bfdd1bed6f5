"""What a class posterior says of a row: its score, and the class that its features are of."""

from __future__ import annotations

import torch
from torch import Tensor


def conflict(posterior: Tensor, targets: Tensor) -> Tensor:
    """Return 1 - p(target) / max p, `[B]`: 0 where the features agree with the target.

    Averaged over trees a posterior is soft; this ratio is not, and needs no calibration.

    Args:
        posterior: p(class | features), `[B, C]`.
        targets: classes `[B]` int64.

    Example:
        >>> conflict(torch.tensor([[0.2, 0.8]]).repeat(2, 1), torch.tensor([0, 1]))
        tensor([0.7500, 0.0000])
    """
    own = posterior.gather(1, targets[:, None]).squeeze(1)
    return 1 - own / posterior.amax(1)


def seen_class(posterior: Tensor, targets: Tensor, score: Tensor) -> Tensor:
    """Return the class that features are of, `[B]`: the target, unless another one is likelier.

    Of many classes some share masses, and then the target need not be the first of the likeliest.

    Args:
        posterior: p(class | features), `[B, C]`.
        targets: classes `[B]` int64.
        score: what `conflict` says of them, `[B]`.

    Example:
        >>> posterior = torch.tensor([[0.4, 0.2, 0.4]]).repeat(2, 1)
        >>> targets = torch.tensor([2, 1])
        >>> seen_class(posterior, targets, conflict(posterior, targets))
        tensor([2, 0])
    """
    return torch.where(score == 0, targets, posterior.argmax(1))


def likely_class(posterior: Tensor, targets: Tensor, score: Tensor) -> Tensor:
    """Return the bias value of rows, `[B]`: the target, unless they conflict firmly.

    A row whose score is above 1/2 does; its bias value is the likeliest class.

    Args:
        posterior: p(class | features), `[B, C]`.
        targets: classes `[B]` int64.
        score: how conflicting rows are, `[B]`.

    Example:
        >>> posterior = torch.tensor([[0.2, 0.8]]).repeat(2, 1)
        >>> likely_class(posterior, torch.tensor([0, 0]), torch.tensor([0.1, 0.9]))
        tensor([0, 1])
    """
    return torch.where(score > 0.5, posterior.argmax(1), targets)
