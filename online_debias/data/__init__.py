"""Image sets with a known bias, each held whole in memory and annotated for evaluation."""

from __future__ import annotations

from online_debias.data.biased_digits import BiasedDigits
from online_debias.data.biased_fashion_mnist import BiasedFashionMNIST
from online_debias.data.biased_mnist import BiasedMNIST
from online_debias.data.images import Images
from online_debias.data.source import Source

__all__ = ["BiasedDigits", "BiasedFashionMNIST", "BiasedMNIST", "Images", "Source"]
