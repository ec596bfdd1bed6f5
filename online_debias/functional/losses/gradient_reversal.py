"""The model's part in the game of Learning Not to Learn (Kim et al., CVPR 2019)."""

from __future__ import annotations

from torch import Tensor


def reversed_cross_entropy(logits: Tensor, labels: Tensor, entropy: float = 0.0) -> Tensor:
    """Return log p_label + entropy * sum_k p_k log p_k of each row, `[B]`.

    Minimising the first part fools the head, the second makes it unsure, whatever the label.

    Args:
        logits: `[B, K]`.
        labels: `[B]` int64.
        entropy: weight of the second part.

    Example:
        >>> import torch
        >>> reversed_cross_entropy(torch.zeros(1, 2), torch.tensor([1]))
        tensor([-0.6931])
    """
    log_p = logits.log_softmax(1)
    reverse = log_p.gather(1, labels[:, None]).squeeze(1)
    return reverse + entropy * (log_p.exp() * log_p).sum(1)
