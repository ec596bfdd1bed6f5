"""Trees of blocks of the features: each block alone, and some of them in the end."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from online_debias.detectors import HalfSpaceTrees
from online_debias.detectors.trees.block_trees import BlockTrees

CLASSES, BLOCKS, WIDTH = 3, 3, 4


def make() -> BlockTrees:
    trees = BlockTrees(BLOCKS * 5, BLOCKS, height=4, fold=64)
    trees.setup(BLOCKS * WIDTH, CLASSES, "cpu", seed=0)
    return trees


def drawn(rows: int) -> tuple[Tensor, Tensor]:
    """Return features of which the second block tells one of the classes, and classes."""
    y = torch.arange(rows) % CLASSES
    x = torch.randn(rows, BLOCKS * WIDTH, generator=torch.Generator().manual_seed(0))
    x[:, WIDTH] += 3 * (y == 1)
    return x, y


def features(block: int) -> slice:
    return slice(block * WIDTH, (block + 1) * WIDTH)


def test_a_block_is_told_by_its_own_trees_alone() -> None:
    """Against one forest a block, of the same trees, that knows of the others nothing."""
    both = make()
    x, y = drawn(512)
    singles = []
    for block in range(BLOCKS):
        mine = slice(block * 5, block * 5 + 5)
        single = HalfSpaceTrees(n_trees=5, height=4, fold=64)
        single.setup(WIDTH, CLASSES, "cpu", seed=0)
        assert int(both.forest.feature[:, mine].min()) >= block * WIDTH
        assert int(both.forest.feature[:, mine].max()) < (block + 1) * WIDTH
        single.forest.feature.copy_(both.forest.feature[:, mine] - block * WIDTH)
        for name in ("threshold", "cut"):
            getattr(single.forest, name).copy_(getattr(both.forest, name)[:, mine])
        singles.append(single)
    for rows in torch.arange(512).split(64):
        both.learn(x[rows], y[rows], torch.ones(len(rows)))
        for block, single in enumerate(singles):
            single.learn(x[rows, features(block)], y[rows], torch.ones(len(rows)))
    found = both.block_posteriors(x)
    for block, single in enumerate(singles):
        alone = single.posterior(x[:, features(block)])
        torch.testing.assert_close(found[:, block], alone)
    torch.testing.assert_close(found.mean(1), both.posterior(x))


def test_what_does_not_come_in_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="10 features do not come in 3 blocks"):
        BlockTrees(n_trees=9, blocks=3).setup(10, 3, "cpu", 0)
    for trees, blocks in ((10, 3), (4, 0)):
        with pytest.raises(
            ValueError, match=f"n_trees is {trees}.*multiple of the {blocks} blocks"
        ):
            BlockTrees(trees, blocks)
