"""Half-space trees for bias: one random forest, leaf masses of every class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from online_debias.detectors.detector import Detector
from online_debias.detectors.groups import group_of, of_classes
from online_debias.detectors.normalizer import NormalCDF
from online_debias.detectors.trees.compiled import CompiledMassTable
from online_debias.detectors.trees.compiled import add_mass as compiled_add_mass
from online_debias.detectors.trees.forest import Forest
from online_debias.detectors.trees.mass import MassTable, add_mass, close_windows
from online_debias.detectors.trees.posterior_table import PosteriorTable
from online_debias.runtime.seeds import generator


class HalfSpaceTrees(Detector):
    """A streaming forest of random splits that remembers which classes fall into which region.

    Trees do not depend on the data; all they learn is mass. A row adds its mass to the open window
    of its class and leaves; a *fold* turns the window into the reference that scores are read from
    (`reference = retention * reference + open`). Between folds a score is a pure function.

    - `score="posterior"`: 1 - p(target) / max p, where p is the mean over trees of the share each
      class has in the row's region. It folds at the end of the batch that completes a window: a
      quarter of `fold` twice, half of it, then `fold` rows. High means: the features are
      another class's.
    - `score="mass"`: the depth-weighted masses of Tan, Ting and Liu, "Fast Anomaly Detection for
      Streaming Data" (IJCAI 2011), as river computes them: high means few rows like this in the
      class. Each class's window closes after exactly `fold` of its rows, also within a batch.
      With `classes=False, retention=0, normalizer="none"` and river's trees (`plant`), scores equal
      river's to the last bit. For one process only.

    With `normalizer="cdf"` the rows of the first window only set the scale. Windows count rows, of
    whatever mass, so that the host always knows when to fold.

    Attributes:
        open: masses of the open windows, `[leaf, tree, class]`.
        reference: masses that scores are read from, `[leaf, tree, class]`.

    Args:
        n_trees: number of trees.
        height: splits from root to leaf.
        fold: rows a window.
        retention: what the reference keeps at a fold, in [0, 1).
        least_mass: mass below which a region leaves the answer to its parent (posterior).
        score: what is scored, see above.
        classes: False pools all classes: for comparison, not for weighting.
        normalizer: "cdf" follows each feature's mean and deviation; "none" takes features as they
            are, in [0, 1] for trees to be of use.
        prior: mass added to every class of a region (posterior).
        most_groups: masses are kept for so many classes; of more, those with the same remainder
            share them and count as one, so that a row whose features are those of a class of its
            own group, about one conflicting row in `most_groups`, counts as aligned.
        compiled: whether numba routes and counts the rows, on a CPU only: the same scores sooner,
            after some seconds to begin with (`pip install 'online-debias[compiled]'`).

    Raises:
        ValueError: if a setting is out of range, or posteriors are asked of pooled classes.
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

    forest: Forest
    open: Tensor
    reference: Tensor
    count: Tensor
    blocks = 1  # of features, each with trees of its own; see `BlockTrees`

    def __init__(
        self,
        n_trees: int = 100,
        height: int = 6,
        fold: int = 512,
        retention: float = 0.88,
        least_mass: float = 8.0,
        score: Literal["posterior", "mass"] = "posterior",
        classes: bool = True,
        normalizer: Literal["cdf", "none"] = "cdf",
        prior: float = 1.0,
        most_groups: int = 1024,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        for name, value, valid, expected in (
            ("n_trees", n_trees, n_trees >= 1, "at least 1"),
            ("height", height, 1 <= height <= 20, "1 to 20"),
            ("fold", fold, fold >= 1, "at least 1"),
            ("retention", retention, 0 <= retention < 1, "in [0, 1)"),
            ("least_mass", least_mass, least_mass > 0, "above 0"),
            ("score", score, score in ("posterior", "mass"), "'posterior' or 'mass'"),
            ("normalizer", normalizer, normalizer in ("cdf", "none"), "'cdf' or 'none'"),
            ("prior", prior, prior > 0, "above 0"),
            ("most_groups", most_groups, most_groups >= 2, "at least 2"),
        ):
            if not valid:
                raise ValueError(f"{name} is {value!r}, but must be {expected}.")
        if score == "posterior" and not classes:
            raise ValueError("score='posterior' needs classes=True: use score='mass' without.")
        self.n_trees, self.height = n_trees, height
        self.window, self.retention = fold, retention
        self.least_mass, self.prior, self.most_groups = least_mass, prior, most_groups
        self.normalizer, self.compiled = normalizer, compiled
        self._add = compiled_add_mass if compiled else add_mass
        self.class_conditional = classes
        self.has_posterior = score == "posterior"
        self._start()

    def _start(self) -> None:
        self.rows = self.folds = 0  # rows since the last fold; folds done
        self.counted = 0  # rows whose mass was counted
        self._table: MassTable | PosteriorTable | None = None
        self._stale = True  # the table is older than the reference

    def setup(self, n_features: int, n_classes: int, device: torch.device | str, seed: int) -> None:
        """Draw the trees and make empty masses; see `Detector.setup`."""
        super().setup(n_features, n_classes, device, seed)
        self._start()
        scale = NormalCDF(n_features, self.retention, device) if self.normalizer == "cdf" else None
        random = generator("cpu", seed, "half_space_trees")
        forest = self.n_trees, self.height, n_features, scale, random, device, self.blocks
        self.forest = Forest(*forest, compiled=self.compiled)
        self.n_groups = min(n_classes, self.most_groups) if self.class_conditional else 1
        shape = (2**self.height, self.n_trees, self.n_groups)
        for name in ("open", "reference"):
            self.register_buffer(name, torch.zeros(shape, device=device))
        if self.class_conditional and not self.has_posterior:
            self.register_buffer(
                "count", torch.zeros(self.n_groups, dtype=torch.int64, device=device)
            )

    def plant(self, feature: Tensor, threshold: Tensor) -> None:
        """Use these trees instead of random ones, before anything is learned; see `Forest.plant`.

        Raises:
            ValueError: if shapes or features do not fit, or if rows were learned already.
        """
        if self.rows or self.folds:
            raise ValueError("trees cannot be planted after rows were learned: call setup() again")
        self.forest.plant(feature, threshold)

    @property
    def ready(self) -> bool:
        """Whether a score can differ from 0: known from the number of rows alone."""
        if self.has_posterior:
            return self.folds > (self.normalizer == "cdf")
        return self.counted >= self.window

    @property
    def due(self) -> bool:
        """Whether the window is complete; the first ones are short, for an early start."""
        return self.rows >= max(1, self.window >> max(0, min(2, 3 - self.folds)))

    @torch.no_grad()
    def posterior(self, x: Tensor) -> Tensor:
        """Return p(class | features) `[B, C]`, as if classes were equally common.

        Uniform before `ready`.

        Args:
            x: features `[B, D]`.

        Raises:
            ValueError: if `x` has another width, or with `score="mass"`.
        """
        posterior = self._posterior_table().posterior(self._routed(x))
        return of_classes(posterior, self.n_classes)

    @torch.no_grad()
    def exact_score(self, x: Tensor, targets: Tensor) -> Tensor:
        """Return `score` as it was computed: `[B]`, float64 with `score="mass"`."""
        self._check(x, targets)
        return self._fresh_table().read(self.forest.route(x.float()), self._groups(targets))[0]

    def score(self, x: Tensor, targets: Tensor) -> Tensor:
        """Return `[B]` float32 in [0, 1], high = bias-conflicting; see `Detector.score`."""
        return self.exact_score(x, targets).float()

    @torch.no_grad()
    def learn(self, x: Tensor, targets: Tensor, mass: Tensor, rows: int | None = None) -> None:
        """Add a batch to the open windows; see `Detector.learn`."""
        self._check(x, targets, mass)
        x = x.float()
        self._learn(x, self.forest.route(x), self._groups(targets), mass.float(), rows)

    @torch.no_grad()
    def step(
        self, x: Tensor, targets: Tensor, mass: Tensor, rows: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Score a batch, then learn it, routing it once; see `Detector.step`."""
        self._check(x, targets, mass)
        x = x.float()
        leaf, groups = self.forest.route(x), self._groups(targets)
        scores, posterior = self._fresh_table().read(leaf, groups)
        self._learn(x, leaf, groups, mass.float(), rows)
        posterior = None if posterior is None else of_classes(posterior, self.n_classes)
        return scores.float(), posterior

    @torch.no_grad()
    def fold(self, statistics: Mapping[str, Tensor] | None = None) -> None:
        """Turn the open window into reference; see `Detector.fold`."""
        for name, value in (statistics or {}).items():
            self.additive()[name].copy_(value)
        if self.has_posterior:
            self._close()
        self.forest.fold()
        self.rows, self.folds = 0, self.folds + 1

    def additive(self) -> dict[str, Tensor]:
        """Return the open window's masses (posterior) and the normaliser's sums."""
        scale = self.forest.normalizer
        masses = {"masses": self.open} if self.has_posterior else {}
        return masses | (scale.additive() if scale is not None else {})

    def get_extra_state(self) -> dict[str, int]:
        """Return the counters."""
        return {"rows": self.rows, "folds": self.folds, "counted": self.counted}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Take back the counters; the table is made anew when next needed."""
        self.rows, self.folds, self.counted = state["rows"], state["folds"], state["counted"]
        self._stale = True

    def _groups(self, targets: Tensor) -> Tensor:
        return group_of(targets, self.n_groups, self.n_classes) if self.n_groups > 1 else targets

    def _learn(
        self, x: Tensor, leaf: Tensor, groups: Tensor, mass: Tensor, rows: int | None
    ) -> None:
        if not self.has_posterior and rows not in (None, len(x)):
            raise ValueError(
                f"score='mass' counts windows in one process, but {rows} rows came to all ranks "
                f"and {len(x)} to this one: use score='posterior'"
            )
        scale = self.forest.normalizer
        if scale is not None:
            scale.observe(x, mass)
        if scale is None or self.folds:  # before the first fold the cuts mean nothing
            self._count(leaf, groups, mass)
        self.rows += len(x) if rows is None else rows
        if rows is None and self.due:
            self.fold()

    def _count(self, leaf: Tensor, groups: Tensor, mass: Tensor) -> None:
        before, self.counted = self.counted, self.counted + len(leaf)
        if self.has_posterior:
            self._add(self.open, leaf, groups, mass)
        elif self.class_conditional:
            masses = self.open, self.reference, self.count
            close_windows(*masses, leaf, groups, mass, self.window, self.retention)
            self._stale = True  # only the device knows whether a window closed
        else:
            start, stop = 0, self.window - before % self.window
            while stop <= len(leaf):
                self._add(self.open, leaf[start:stop], None, mass[start:stop])
                self._close()
                start, stop = stop, stop + self.window
            if start:
                leaf, mass = leaf[start:], mass[start:]
            self._add(self.open, leaf, None, mass)

    def _close(self) -> None:
        torch.add(self.open, self.reference, alpha=self.retention, out=self.reference)
        torch.threshold_(self.reference, 1e-20, 0.0)  # subnormal numbers would be slow
        self.open.zero_()
        self._stale = True

    def _routed(self, x: Tensor) -> Tensor:
        self._check(x)
        return self.forest.route(x.float())

    def _posterior_table(self) -> PosteriorTable:
        table = self._fresh_table()
        if not isinstance(table, PosteriorTable):
            raise ValueError("score='mass' has no posterior: use score='posterior'")
        return table

    def _fresh_table(self) -> MassTable | PosteriorTable:
        if self._table is None or self._table.device != self.reference.device:
            with torch.inference_mode(False):  # or only inference mode could refresh it
                if self.has_posterior:
                    self._table = PosteriorTable(self.reference, self.least_mass, self.prior)
                else:
                    table = CompiledMassTable if self.compiled else MassTable
                    self._table = table(self.reference)
            self._stale = True
        if self._stale:
            self._table.refresh(self.reference)
            self._stale = False
        return self._table

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_table": None}
