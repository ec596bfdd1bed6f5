"""torchvision's classifiers by name."""

from __future__ import annotations

import difflib
from pathlib import Path

from online_debias.models.imported import Imported, Normalise, Trainable
from online_debias.runtime.torchvision_compat import import_torchvision


class Torchvision(Imported):
    """One of torchvision's classifiers, with random weights or those of a file.

    Args:
        n_classes: number of classes.
        name: as in `torchvision.models.list_models()`.
        weights, normalise, trainable: see `Imported`.

    Raises:
        FileNotFoundError: there is no file of weights.
        ValueError: torchvision has no such model, names the nearest; or the weights do not fit.

    Example:
        >>> type(Torchvision(10, "resnet18").net).__name__
        'ResNet'
    """

    def __init__(
        self,
        n_classes: int,
        name: str,
        weights: str | Path | None = None,
        normalise: Normalise | None = None,
        trainable: Trainable = "all",
    ) -> None:
        models = import_torchvision().models
        known = models.list_models(module=models)
        if name not in known:
            near = ", ".join(difflib.get_close_matches(name, known, n=3) or known[:3])
            raise ValueError(f"torchvision has no model {name!r}; the nearest are {near}.")
        super().__init__(
            n_classes,
            "torchvision.models.get_model",
            {"name": name, "num_classes": n_classes},
            weights,
            normalise,
            trainable=trainable,
        )
