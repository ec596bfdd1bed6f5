"""Half-space trees that each read one block of the features, and can be asked block by block."""

from __future__ import annotations

import torch
from torch import Tensor

from online_debias.detectors.class_buckets import of_classes
from online_debias.detectors.trees.half_space_trees import HalfSpaceTrees


class BlockTrees(HalfSpaceTrees):
    """A forest whose trees are shared out among blocks of features, such as places of a map.

    `posterior` and `step` are answers of all of them together; see `HalfSpaceTrees` for the rest.

    Args:
        n_trees: number of trees, a multiple of `blocks`; those of a block stand side by side.
        blocks: features come in so many blocks of one width.
        height, fold, retention: of all trees; see `HalfSpaceTrees`.

    Raises:
        ValueError: a setting is out of range or, in `setup`, the features do not come in blocks.

    Example:
        >>> trees = BlockTrees(n_trees=16, blocks=2, fold=64)
        >>> trees.setup(n_features=2 * 3, n_classes=2, device="cpu", seed=0)
        >>> y = torch.arange(256) % 2
        >>> x = torch.rand(256, 6)
        >>> x[:, 3:] += y[:, None]  # the second block tells the class
        >>> for rows in torch.arange(256).split(32):
        ...     trees.learn(x[rows], y[rows], torch.ones(32))
        >>> told = trees.block_posteriors(x).argmax(2) == y[:, None]
        >>> told.float().mean(0).round()
        tensor([1., 1.])
    """

    def __init__(
        self,
        n_trees: int,
        blocks: int,
        height: int = 6,
        fold: int = 512,
        retention: float = 0.88,
    ) -> None:
        super().__init__(n_trees, height, fold, retention)
        if blocks < 1 or n_trees % blocks:
            raise ValueError(
                f"n_trees is {n_trees}, but must be a multiple of the {blocks} blocks."
            )
        self.blocks = blocks

    def setup(self, n_features: int, n_classes: int, device: torch.device | str, seed: int) -> None:
        """Draw the trees and make empty masses; see `Detector.setup`."""
        if n_features % self.blocks:
            raise ValueError(
                f"{n_features} features do not come in {self.blocks} blocks of one width: "
                "set up for a multiple"
            )
        super().setup(n_features, n_classes, device, seed)

    @torch.no_grad()
    def block_posteriors(self, x: Tensor) -> Tensor:
        """Return what each block alone says, p(class | its features), `[B, blocks, C]`.

        Args:
            x: features `[B, D]`, block after block.

        Raises:
            ValueError: see `posterior`.
        """
        self._check(x)
        return self._by_block(self.forest.route(x.float()))

    @torch.no_grad()
    def block_step(self, x: Tensor, targets: Tensor, mass: Tensor) -> Tensor:
        """Return `block_posteriors` of a batch, then learn it, routing it once.

        Args:
            x: features `[B, D]`, block after block.
            targets: classes `[B]` int64.
            mass: `[B]`, what a row counts for.
        """
        self._check(x, targets, mass)
        read = self._read(x.float())
        posteriors = self._by_block(read[1])
        self._learn(read, targets, mass.float())
        return posteriors

    def _by_block(self, leaf: Tensor) -> Tensor:
        posterior = self._fresh_table().posterior(leaf.view(len(leaf) * self.blocks, -1))
        posterior = posterior.view(len(leaf), self.blocks, -1) * self.blocks
        return of_classes(posterior, self.n_classes)
