"""Cluster the features while they are learned: pseudo-attributes, or pseudo bias labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from online_debias.engine import Batch, Callback, Run
from online_debias.functional.weights import clusters


class OnlineClusters(Callback):
    """Assigns rows to centroids that follow the features, by cosine.

    Takes the place of the clustering that BPA (Seo, Lee, Han, CVPR 2022) and ClusterFix (Capitani
    et al., WACV 2024) do once, class by class, and U-EnD (Barbano, Tartaglione, Grangetto, 2022)
    over all samples. Rows are assigned first and move the centroids after; a cluster is placed a
    step, at a row far from the others, until there are as many as asked for, and again when one
    is left by its rows. Rows count 1 / rate; mixed rows are assigned and move nothing.

    Signals: provides `cluster`, the number target * n_clusters + c (argument `signal`), and
    `bias_label`, c alone (argument `label_signal`). With `per_class` a value c means nothing
    across classes; without, it is one pseudo bias label for all of them, as EnD needs it.
    Records: `clusters/alive`, share of the clusters in use; `clusters/cosine`, the mean cosine of
    rows and their centroids.

    Args:
        n_clusters: number of clusters, in each class or over all rows.
        tap: name of the features.
        per_class: whether each class has centroids of its own.
        momentum: what a centroid keeps for each row that an average cluster gets, in [0, 1).
        signal: name of the number of the (class, cluster) cell.
        label_signal: name of the cluster's number alone; None does not publish it.
        name: unique in a run.

    Raises:
        ValueError: `n_clusters` or `momentum` is out of range.

    Example:
        >>> OnlineClusters(n_clusters=10, per_class=False).provides
        ('cluster', 'bias_label')
    """

    sums: Tensor
    mass: Tensor

    def __init__(
        self,
        n_clusters: int = 8,
        tap: str = "bottleneck",
        per_class: bool = True,
        momentum: float = 0.99,
        signal: str = "cluster",
        label_signal: str | None = "bias_label",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.expect("n_clusters", n_clusters, n_clusters >= 1, "at least 1")
        self.expect("momentum", momentum, 0 <= momentum < 1, "0 <= momentum < 1")
        self.n_clusters, self.tap, self.per_class = n_clusters, tap, per_class
        self.momentum, self.signal, self.label_signal = momentum, signal, label_signal
        self.taps = (tap,)
        self.provides = (signal, label_signal) if label_signal else (signal,)

    def setup(self, run: Run) -> None:
        """Make the centroids, all of them still to be placed."""
        n_groups = run.n_classes if self.per_class else 1
        shape = (n_groups, self.n_clusters, run.width(self.tap))
        self.register_buffer("sums", torch.zeros(shape))
        self.register_buffer("mass", torch.zeros(shape[:2]))
        run.n_values[self.signal] = run.n_classes * self.n_clusters
        if self.label_signal:
            run.n_values[self.label_signal] = self.n_clusters

    def on_features(self, batch: Batch) -> None:
        """Assign, move the centroids, publish."""
        unit = F.normalize(batch.features[self.tap].detach(), dim=1)
        group = batch.targets if self.per_class else torch.zeros_like(batch.targets)
        weight = batch.mass
        cluster, cosine = clusters.assign(unit, group, self.sums, self.mass)
        moved = clusters.update(self.sums, self.mass, unit, group, cluster, weight, self.momentum)
        stream = self.run.generator(self.name)
        sums, mass = clusters.seed(*moved, unit, group, cosine, weight, stream)
        self.sums.copy_(sums)
        self.mass.copy_(mass)
        batch.publish(self.signal, batch.targets * self.n_clusters + cluster)
        if self.label_signal:
            batch.publish(self.label_signal, cluster)
        self.run.record("clusters/alive", clusters.alive(mass).float().mean())
        self.run.record("clusters/cosine", cosine.clamp_min(-1).mean())
