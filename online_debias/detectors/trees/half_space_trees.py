"""Half-space trees for bias: of which class are rows with features like these?"""

from __future__ import annotations

import torch
from torch import Tensor

from online_debias.detectors.class_buckets import of_classes
from online_debias.detectors.trees.leaf_masses import LeafMasses
from online_debias.detectors.trees.posterior_table import PosteriorTable


class HalfSpaceTrees(LeafMasses[PosteriorTable]):
    """A streaming forest of random splits that remembers which classes fall into which region.

    The score is 1 - p(target) / max p, where p is the mean over trees of the share each class has
    in the row's region. High means: the features are another class's. `MassTrees` has the score
    that was published for such trees: how few rows are like this one.

    Trees do not depend on the data; all they learn is mass. A row adds its mass to the open window
    of its class and leaves. At the end of the batch that completes a window it becomes part of the
    reference that scores are read from (`reference = retention * reference + open`). Between these
    folds a score is a pure function. The first windows are short: a quarter of `fold` twice, half
    of it, then `fold` rows, of whatever mass, so that the host always knows when to fold. Those of
    the first window only set the scale of the features.

    Attributes:
        open: masses of the open windows, `[leaf, tree, class]`.
        reference: masses that scores are read from, `[leaf, tree, class]`.

    Args:
        n_trees: number of trees.
        height: splits from root to leaf.
        fold: rows a window.
        retention: what the reference keeps at a fold, in [0, 1).
        least_mass: mass below which a region leaves the answer to its parent.
        prior: mass added to every class of a region.
        most_buckets: masses are kept for so many classes; of more, those with the same remainder
            share them and count as one, so that a row whose features are those of a class of its
            own bucket, about one conflicting row in `most_buckets`, counts as aligned.
        compiled: whether numba routes and counts the rows, on a CPU only: the same scores sooner,
            after some seconds to begin with (`pip install 'online-debias[compiled]'`).

    Raises:
        ValueError: if a setting is out of range.
        ConfigError: in `setup`, numba is asked for, but not installed.

    Example:
        >>> trees = HalfSpaceTrees(fold=64)
        >>> trees.setup(n_features=4, n_classes=2, device="cpu", seed=0)
        >>> y = torch.arange(256) % 2
        >>> x = torch.rand(256, 4) + y[:, None]
        >>> for rows in torch.arange(256).split(32):
        ...     trees.learn(x[rows], y[rows], torch.ones(32))
        >>> trees.score(x[:2], y[:2]).round(), trees.score(x[:2], 1 - y[:2]).round()
        (tensor([0., 0.]), tensor([1., 1.]))
    """

    has_posterior = True

    def __init__(
        self,
        n_trees: int = 100,
        height: int = 6,
        fold: int = 512,
        retention: float = 0.88,
        least_mass: float = 8.0,
        prior: float = 1.0,
        most_buckets: int = 1024,
        compiled: bool = False,
    ) -> None:
        super().__init__(n_trees, height, fold, retention, most_buckets, compiled)
        for name, value in (("least_mass", least_mass), ("prior", prior)):
            if value <= 0:
                raise ValueError(f"{name} is {value!r}, but must be above 0.")
        self.least_mass, self.prior = least_mass, prior

    @property
    def ready(self) -> bool:
        """Whether a score can differ from 0: scale and masses are known."""
        return self.folds > 1

    @torch.no_grad()
    def posterior(self, x: Tensor) -> Tensor:
        """Return p(class | features) `[B, C]`, as if classes were equally common.

        Uniform before `ready`.

        Args:
            x: features `[B, D]`.

        Raises:
            ValueError: if `x` has another width.
        """
        self._check(x)
        posterior = self._fresh_table().posterior(self.forest.route(x.float()))
        return of_classes(posterior, self.n_classes)

    def _judge(self, read: tuple[Tensor, Tensor], targets: Tensor) -> tuple[Tensor, Tensor]:
        scores, posterior = self._fresh_table().read(read[1], self._buckets(targets))
        return scores, of_classes(posterior, self.n_classes)

    def _count(self, leaf: Tensor, buckets: Tensor, mass: Tensor) -> None:
        self._add(self.open, leaf, buckets, mass)

    def _close(self) -> None:
        self._close_masses()
        super()._close()

    def _new_table(self) -> PosteriorTable:
        return PosteriorTable(self.reference, self.least_mass, self.prior)
