"""What every data set offers: a biased training and validation set and an unbiased test set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from online_debias.data.images import Images


class Source(ABC):
    """A data set with its splits, chosen by its class on the command line.

    The constructor checks its arguments and looks for the files; the splits are built when
    asked for. The same arguments give bit-equal tensors.

    Attributes:
        summary: The data set in one line.
        expected_tree: The files it reads below its root; empty if it needs none.
        classes: The names of the classes.

    Example:
        >>> import torch
        >>> class Dots(Source):
        ...     summary = "One black and one white dot, without a bias."
        ...     classes = ("black", "white")
        ...     def train(self) -> Images:
        ...         pixels = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None]
        ...         return Images(pixels, torch.tensor([0, 1]), None, self.classes)
        ...     def validation(self) -> None: ...
        ...     def test(self) -> Images:
        ...         return self.train()
        >>> len(Dots().train())
        2
    """

    summary: ClassVar[str]
    expected_tree: ClassVar[str] = ""
    classes: tuple[str, ...]

    @abstractmethod
    def train(self) -> Images:
        """The biased training set."""

    @abstractmethod
    def validation(self) -> Images | None:
        """A set biased as training is and disjoint from it; None if there is none."""

    @abstractmethod
    def test(self) -> Images:
        """The unbiased test set."""


VALIDATION_AT_LEAST, VALIDATION_AT_MOST = 1000, 5000


def number_to_train_on(n_train: int | None, total: int, root: str | Path) -> int:
    """The number of training images: all of them when None.

    Raises:
        ValueError: If the files do not have as many.
    """
    if n_train is None:
        return total
    if not 1 <= n_train <= total:
        raise ValueError(
            f"n_train={n_train} must be from 1 to {total}, the number of training images in "
            f"'{root}'."
        )
    return n_train


def left_for_validation(n_train: int, total: int) -> int:
    """How many of the other images are for validation: up to 5,000, none of fewer than 1,000."""
    left = total - n_train
    return min(left, VALIDATION_AT_MOST) if left >= VALIDATION_AT_LEAST else 0


def check_rho(rho: float) -> None:
    """Refuses a share of bias-aligned images outside [0, 1].

    Raises:
        ValueError: Naming the value.
    """
    if not 0 <= rho <= 1:
        raise ValueError(f"rho={rho} must be in [0, 1]: it is the share of bias-aligned images.")
