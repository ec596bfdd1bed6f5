"""Image sets, each held whole in memory; a bias that is known is annotated for evaluation."""

from __future__ import annotations

from online_debias.data.bar import BAR
from online_debias.data.bffhq import BFFHQ
from online_debias.data.biased_digits import BiasedDigits
from online_debias.data.biased_fashion_mnist import BiasedFashionMNIST
from online_debias.data.biased_mnist import BiasedMNIST
from online_debias.data.celeba import CelebA
from online_debias.data.class_folder import ClassFolder
from online_debias.data.colored_mnist import ColoredMNIST
from online_debias.data.corrupted_cifar10 import CorruptedCIFAR10
from online_debias.data.csv_data import CSVData
from online_debias.data.dominoes import Dominoes
from online_debias.data.from_dataset import FromDataset
from online_debias.data.hugging_face import HuggingFace
from online_debias.data.images import Images
from online_debias.data.source import Source
from online_debias.data.urban_cars import UrbanCars
from online_debias.data.waterbirds import Waterbirds

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
