"""The trees of a river model, as ours take them: to measure and to test both on the same trees."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def river_trees(model: Any) -> tuple[Tensor, Tensor]:
    """Return the trees of a river `HalfSpaceTrees` whose features are numbered from 0.

    Args:
        model: a `river.anomaly.HalfSpaceTrees` that has learned a row; earlier it has no trees.

    Returns:
        Features, int64, and thresholds, float64, both `[n_trees, 2^height - 1]`, in heap order
        (children of node i: 2i + 1, 2i + 2), as `MassTrees.plant` takes them.

    Raises:
        ValueError: if the model has no trees yet.

    Example:
        ```
        model = river.anomaly.HalfSpaceTrees(n_trees=25, height=8, seed=0)
        score_then_learn(model, as_dicts(x[:1]))
        detector = MassTrees(25, 8, 250, 0, classes=False, normalizer="none")
        detector.setup(x.shape[1], 1, "cpu", seed=0)
        detector.plant(*river_trees(model))
        ```
    """
    if not model.trees:
        raise ValueError("the river model has no trees yet: let it learn one row first")
    splits = [heap_order(tree)[: 2**model.height - 1] for tree in model.trees]
    feature = torch.tensor([[node.feature for node in tree] for tree in splits])
    threshold = [[node.threshold for node in tree] for tree in splits]
    return feature, torch.tensor(threshold, dtype=torch.float64)


def heap_order(tree: Any) -> list[Any]:
    """Return all nodes of a perfect river tree, level by level, from left to right."""
    level, nodes = [tree], []
    while level:
        nodes += level
        level = [child for node in level for child in getattr(node, "children", ())]
    return nodes
