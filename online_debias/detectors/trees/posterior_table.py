"""The label posterior of a forest: how often each class falls into a row's regions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from online_debias.detectors.posterior import conflict
from online_debias.detectors.trees.trees import NodeMasses, levels


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
