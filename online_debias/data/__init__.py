"""Image sets, each held whole in memory; a bias that is known is annotated for evaluation.

May import: functional, runtime, errors.
"""

from __future__ import annotations

from online_debias.data.images import Images
from online_debias.data.own.class_folder import ClassFolder
from online_debias.data.own.csv_data import CSVData
from online_debias.data.own.from_dataset import FromDataset
from online_debias.data.own.hugging_face import HuggingFace
from online_debias.data.sets.bar import BAR
from online_debias.data.sets.bffhq import BFFHQ
from online_debias.data.sets.biased_digits import BiasedDigits
from online_debias.data.sets.biased_fashion_mnist import BiasedFashionMNIST
from online_debias.data.sets.biased_mnist import BiasedMNIST
from online_debias.data.sets.celeba import CelebA
from online_debias.data.sets.colored_mnist import ColoredMNIST
from online_debias.data.sets.corrupted_cifar10 import CorruptedCIFAR10
from online_debias.data.sets.dominoes import Dominoes
from online_debias.data.sets.urban_cars import UrbanCars
from online_debias.data.sets.waterbirds import Waterbirds
from online_debias.data.source import Source

__all__ = [
    "BAR",
    "BFFHQ",
    "BiasedDigits",
    "BiasedFashionMNIST",
    "BiasedMNIST",
    "CSVData",
    "CelebA",
    "ClassFolder",
    "ColoredMNIST",
    "CorruptedCIFAR10",
    "Dominoes",
    "FromDataset",
    "HuggingFace",
    "Images",
    "Source",
    "UrbanCars",
    "Waterbirds",
]
