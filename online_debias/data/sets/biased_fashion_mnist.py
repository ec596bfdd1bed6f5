"""Biased Fashion-MNIST: garments on a background whose colour goes with the garment."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from online_debias.data.biasing.colouring import blend, quantise
from online_debias.data.reading.idx import idx_tree
from online_debias.data.sets.biased_mnist import BiasedMNIST


class BiasedFashionMNIST(BiasedMNIST):
    """Fashion-MNIST with the colours of `BiasedMNIST`, blended in.

    Same arguments, splits and draw. A garment's gray values are what tells it from another, so
    they are kept: a pixel is `gray * white + (1 - gray) * colour`.

    Example:
        >>> train = BiasedFashionMNIST("data", rho=0.99).train()  # doctest: +SKIP
        >>> train.classes[int(train.targets[0])]  # doctest: +SKIP
        'ankle boot'
    """

    summary: ClassVar[str] = "Fashion-MNIST garments blended with coloured backgrounds."
    expected_tree: ClassVar[str] = idx_tree("FashionMNIST")
    folder: ClassVar[str] = "FashionMNIST"
    classes: tuple[str, ...] = (
        "t-shirt",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    )

    @staticmethod
    def _paint(gray: Tensor, colours: Tensor) -> Tensor:
        white = torch.ones(1, 3)
        painted = torch.empty(len(gray), 3, *gray.shape[1:], dtype=torch.uint8)
        for start in range(0, len(gray), 4096):  # all at once would need 1 GB in float
            rows = slice(start, start + 4096)
            painted[rows] = quantise(blend(gray[rows] / 255, white, colours[rows] / 255))
        return painted
