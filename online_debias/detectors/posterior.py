"""The label posterior of a forest: how often each class falls into a row's regions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from online_debias.detectors.trees import NodeMasses, levels


class PosteriorTable:
    """p(class | leaf), made anew when masses were folded.

    A leaf with too little mass is answered for by its deepest ancestor with enough. Classes are
    weighed as if equally common, or else every row of a rare class would look bias-conflicting.

    Args:
        reference: leaf masses `[L, T, C]`; only their shape and device matter.
        least_mass: mass, over all classes, that a region needs to answer.
        prior: mass added to every class of a region.
    """

    def __init__(self, reference: Tensor, least_mass: float, prior: float) -> None:
        self.device = reference.device
        self.least_mass, self.prior = least_mass, prior
        self._masses = NodeMasses(reference, reference.dtype)
        nodes = self._masses.nodes[..., 0]
        number = torch.arange(nodes.numel(), dtype=torch.int32, device=nodes.device)
        self._numbers = levels(number.view_as(nodes))
        self._table = torch.zeros_like(reference).flatten(0, 1)

    def refresh(self, reference: Tensor) -> None:
        """Make the table from the leaf masses of the reference."""
        self._masses.sum(reference)
        nodes, trees = self._masses.nodes, reference.shape[1]
        answer, *deeper = self._numbers
        suffices = levels(nodes.sum(2) >= self.least_mass)[1:]
        for own, enough in zip(deeper, suffices, strict=True):
            answer = torch.where(enough, own, torch.cat([answer, answer]))
        of_class = nodes[0, 0]
        rarity = (of_class.mean() + self.least_mass) / (of_class + self.least_mass)
        likely = torch.index_select(nodes.flatten(0, 1), 0, answer.flatten(), out=self._table)
        likely.mul_(rarity).add_(self.prior)
        likely.div_(likely.sum(1, keepdim=True).mul_(trees))  # summed over trees, it is the mean

    def posterior(self, leaf: Tensor) -> Tensor:
        """Return p(class | features), `[B, C]`, from leaves `leaf * T + tree`, `[B, T]`."""
        return embedding_bag(leaf, self._table, mode="sum")

    def read(self, leaf: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores `[B]` and posteriors `[B, C]` of rows in these leaves."""
        posterior = self.posterior(leaf)
        return conflict(posterior, targets), posterior


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
