"""What a detector is: it scores rows of features, then learns them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Detector(nn.Module):
    """Scores how likely a row of features is bias-conflicting, from the rows learned before it.

    State is buffers, made by `setup`: they move to a device and resume by themselves. Whole numbers
    are returned by `get_extra_state` and taken back by `set_extra_state`, as in `Folding`. Nothing
    here has a gradient or waits for the device: rows are counted by shape.

    Attributes:
        class_conditional: False if scores ignore the targets. Such scores do not find
            bias-conflicting samples, and as weights they wreck training.
        has_posterior: whether `step` returns class posteriors, which give a pseudo bias label.
        n_features: width of a row; 0 before `setup`.
        n_classes: number of classes; 0 before `setup`.
    """

    class_conditional = True
    has_posterior = False

    def __init__(self) -> None:
        super().__init__()
        self.n_features = 0
        self.n_classes = 0

    def setup(self, n_features: int, n_classes: int, device: torch.device | str, seed: int) -> None:
        """Make the buffers; what is random comes from `seed` alone, so every rank has the same.

        Raises:
            ValueError: if `n_features` or `n_classes` is below 1.
        """
        if n_features < 1 or n_classes < 1:
            raise ValueError(
                f"a detector needs at least 1 feature and 1 class, not {n_features} and {n_classes}"
            )
        self.n_features, self.n_classes = n_features, n_classes

    @property
    def ready(self) -> bool:
        """Whether a score can differ from 0."""
        raise NotImplementedError

    def score(self, x: Tensor, targets: Tensor) -> Tensor:
        """Return `[B]` float32 in [0, 1], high = bias-conflicting, 0 before `ready`; pure.

        Args:
            x: features `[B, D]`.
            targets: classes `[B]` int64.
        """
        raise NotImplementedError

    def posterior(self, x: Tensor) -> Tensor:
        """Return p(class | features) `[B, C]` of features `[B, D]`; pure.

        Raises:
            ValueError: there is none, see `has_posterior`.
        """
        raise ValueError(
            f"{type(self).__name__} has no posterior: use a detector that has one, such as "
            "HalfSpaceTrees"
        )

    def learn(self, x: Tensor, targets: Tensor, mass: Tensor) -> None:
        """Learn a batch.

        Args:
            x: features `[B, D]`.
            targets: classes `[B]` int64.
            mass: `[B]`, what a row counts for: 1 / (how much oftener than uniform it is drawn).
                A row of mass 0 teaches nothing.
        """
        raise NotImplementedError

    def step(self, x: Tensor, targets: Tensor, mass: Tensor) -> tuple[Tensor, Tensor | None]:
        """Score a batch, then learn it.

        Returns:
            The scores `[B]`, and p(class | features) `[B, C]` or None if the detector has none.
        """
        posterior = self.posterior(x) if self.has_posterior else None
        scores = self.score(x, targets)
        self.learn(x, targets, mass)
        return scores, posterior

    def _check(self, x: Tensor, targets: Tensor | None = None, mass: Tensor | None = None) -> None:
        if not self.n_features:
            raise ValueError(f"{type(self).__name__} has no buffers yet: call setup() first")
        if x.dim() != 2 or x.shape[1] != self.n_features:
            raise ValueError(
                f"features have shape {list(x.shape)}, but this detector was set up for "
                f"[rows, {self.n_features}]: flatten them, or set up another detector"
            )
        for name, value in (("targets", targets), ("mass", mass)):
            if value is not None and value.shape != x.shape[:1]:
                raise ValueError(
                    f"{name} has shape {list(value.shape)}, but there are {len(x)} rows: "
                    "give one value a row"
                )

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        tensors = {name: v for name, v in state_dict.items() if isinstance(v, Tensor)}
        if not self.n_features and any(name.startswith(prefix) for name in tensors):
            raise ValueError(f"{type(self).__name__} cannot load a state yet: call setup() first")
        # Detectors in this one check their own; before that, its extra state may shape them.
        children = self.named_children()
        inner = tuple(f"{name}." for name, child in children if isinstance(child, Detector))
        for name, own in self.state_dict().items():
            saved = None if name.startswith(inner) else tensors.get(prefix + name)
            if saved is not None and saved.shape != own.shape:
                raise ValueError(
                    f"the saved {prefix}{name} has shape {list(saved.shape)}, not "
                    f"{list(own.shape)}: use the settings, classes and features it was saved with"
                )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
