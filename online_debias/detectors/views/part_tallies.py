"""What the parts of an image tell of the rows, counted: is one of them a shortcut?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from online_debias.functional.shortcut.agreement import agreement
from online_debias.functional.shortcut.confirmation import confirmation
from online_debias.functional.shortcut.evenness import evenness


class PartTallies(nn.Module):
    """Counts, part by part, how often it tells the class and what contradicts it.

    A part *contradicts* a row firmly if it holds another class to be twice as likely as the row's
    own, and is as sure of that class as it is, on average, where it is right. Counts of the open
    window are kept apart until it is folded: evidence is of whole windows.

    Attributes:
        right: `[views, G]`, rows of each class that a part told.
        seen: `[G]`, rows of each class.
        contradicted: `[views]`, rows that a part contradicted.
        taken: `[views, G, G]`, these by their class and the one that they were taken for.
        confirmed: `[views, views]`, these by the parts that told their class.
        sure: `[2, views, G]`, confidence where a part was right, and rows; old ones fade.

    Args:
        n_views: number of parts.
        n_buckets: G, number of classes or buckets of them.
        device: where the counts live.
    """

    right: Tensor
    seen: Tensor
    taken: Tensor
    contradicted: Tensor
    confirmed: Tensor
    sure: Tensor

    def __init__(self, n_views: int, n_buckets: int, device: torch.device | str) -> None:
        super().__init__()
        self.n_views, self.n_buckets = n_views, n_buckets
        self.counts = {
            "right": (n_views, n_buckets),
            "seen": (n_buckets,),
            "taken": (n_views, n_buckets, n_buckets),
            "contradicted": (n_views,),
            "confirmed": (n_views, n_views),
        }
        for name, shape in {**self.counts, "sure": (2, n_views, n_buckets)}.items():
            self.register_buffer(name, torch.zeros(shape, device=device))
            self.register_buffer(f"open_{name}", torch.zeros(shape, device=device))

    def add(self, each: Tensor, buckets: Tensor, mass: Tensor) -> None:
        """Count a batch in the open window.

        Args:
            each: what each part says, p(class | its features), `[B, views, G]`.
            buckets: classes `[B]` int64.
            mass: `[B]`, what a row counts for.
        """
        window = self._window()
        confidence, view = each.max(2)
        right = (view == buckets[:, None]) * mass[:, None]  # [B, views]
        window["right"].index_add_(1, buckets, right.T)
        window["seen"].index_add_(0, buckets, mass)
        usual = self.sure[0] / self.sure[1].clamp_min(1e-12)
        place = torch.arange(self.n_views, device=view.device)
        own = each.gather(2, buckets[:, None, None].expand(-1, self.n_views, 1)).squeeze(2)
        contradicts = (2 * own < confidence) & (confidence >= usual[place, view])
        firm = contradicts * mass[:, None]
        window["contradicted"] += firm.sum(0)
        window["confirmed"] += contradicts.to(mass.dtype).T @ right
        taken = (place * self.n_buckets + buckets[:, None]) * self.n_buckets + view
        window["taken"].view(-1).index_add_(0, taken.flatten(), firm.flatten())
        cell = (place * self.n_buckets + view).flatten()
        for total, value in zip(window["sure"], (confidence * right, right), strict=True):
            total.view(-1).index_add_(0, cell, value.flatten())

    def evidence(self, tells: float, least: int) -> Tensor:
        """Return how sure it is that a part shows another thing and is a shortcut, `[views]`.

        In [0, 1]; 0 of parts that tell too little of the class, or contradict it too seldom.

        Args:
            tells: least agreement with the class.
            least: rows that a part must contradict.
        """
        told = self.right.sum(1) / self.seen.sum().clamp_min(1e-12)
        confirmed = confirmation(self.confirmed, self.contradicted, told, self.n_buckets)
        even = evenness(self.taken, max(1, self.n_buckets - 1)).clamp(0, 1)
        counts = (agreement(self.right, self.seen) >= tells) & (self.contradicted >= least)
        return confirmed.clamp(0, 1) * even * counts

    def fold(self, retention: float) -> None:
        """Add the open window to what was counted; of what parts were sure of, old rows fade."""
        self.sure.mul_(retention)
        for name, window in self._window().items():
            getattr(self, name).add_(window)
            window.zero_()

    def clear(self) -> None:
        """Begin to count anew; parts are as sure as they were."""
        for name in self.counts:
            getattr(self, name).zero_()
            getattr(self, f"open_{name}").zero_()

    def _window(self) -> dict[str, Tensor]:
        return {name: getattr(self, f"open_{name}") for name in (*self.counts, "sure")}
