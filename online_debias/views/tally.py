"""Counts of how often views predict the class, class by class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from online_debias.functional.shortcut.agreement import agreement


class Tally(nn.Module):
    """Counts the rows of each class that some views get right.

    Attributes:
        right: `[V, C]`, mass of the rows of each class whose class a view predicted.
        seen: `[V, C]`, mass of all its rows.

    Args:
        n_views: V, how many views are counted side by side.

    Example:
        >>> tally = Tally(n_views=1)
        >>> tally.setup(n_classes=2, device=torch.device("cpu"))
        >>> tally.add(torch.tensor([[0, 1, 1]]), torch.tensor([0, 1, 0]), torch.ones(3))
        >>> tally.agreement
        tensor([0.5000])
    """

    right: Tensor
    seen: Tensor

    def __init__(self, n_views: int) -> None:
        super().__init__()
        self.n_views = n_views

    def setup(self, n_classes: int, device: torch.device) -> None:
        """Begin with no rows."""
        for name in ("right", "seen"):
            self.register_buffer(name, torch.zeros(self.n_views, n_classes, device=device))

    def add(self, predicted: Tensor, targets: Tensor, mass: Tensor) -> None:
        """Count a batch.

        Args:
            predicted: what each view takes each row for, `[V, B]` or `[B]`.
            targets: classes `[B]` int64.
            mass: what a row counts for, `[V, B]` or `[B]`.
        """
        mass = mass.expand(self.n_views, -1)
        self.right.index_add_(1, targets, mass * (predicted == targets))
        self.seen.index_add_(1, targets, mass)

    def fade(self, view: int, keep: Tensor) -> None:
        """Let a view's earlier rows count `keep` times what they did, 0-dim."""
        self.right[view].mul_(keep)
        self.seen[view].mul_(keep)

    @property
    def agreement(self) -> Tensor:
        """How much better than by chance each view predicts the class, `[V]`, in [0, 1]."""
        return agreement(self.right, self.seen)
