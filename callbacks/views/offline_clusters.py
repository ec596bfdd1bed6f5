"""Cluster the features of each class once, as ClusterFix does before it trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from online_debias.engine import Batch, Callback, Run, SampleMemory
from online_debias.functional.by_index import last_by_index
from online_debias.functional.weights import clusters
from online_debias.functional.weights.k_means import k_means
from online_debias.runtime import seeds


class OfflineClusters(Callback):
    """Clusters every class by cosine k-means, once, and keeps each sample in its cluster.

    The pseudo-attributes of BPA (Seo, Lee, Han, CVPR 2022) and ClusterFix (Capitani et al., WACV
    2024): k-means on the unit features of a frozen extractor, given as a file, or of the model
    itself as it is after `warmup` epochs. Classes are known only from the batches, so both are
    clustered at the end of that epoch, over the samples it showed; one that it did not show goes
    to its nearest centroid when it is first seen. Until then every sample is in cluster 0 of its
    class.

    Signals: provides `cluster`, the number target * n_clusters + c (argument `signal`), and
    `bias_label`, c alone, which means nothing across classes (argument `label_signal`). Mixed
    rows have the cluster of their first image.
    Records: nothing.

    Args:
        n_clusters: number of clusters in each class.
        features: path of a .npy file `[N, D]`, one row a training sample; kept on the device. None
            takes the features that the model shows at the tap in epoch `warmup - 1`.
        tap: name of the features, without a file.
        warmup: epochs before the clustering, at least 1.
        signal: name of the number of the (class, cluster) cell.
        label_signal: name of the cluster's number alone; None does not publish it.
        name: unique in a run.

    Raises:
        ValueError: `n_clusters` or `warmup` is out of range; when the run is set up, the file
            cannot be read or does not fit the training set.

    Example:
        >>> OfflineClusters().taps, OfflineClusters(features="resnet18.npy").taps
        (('bottleneck',), ())
    """

    sums: Tensor
    mass: Tensor
    targets: Tensor

    def __init__(
        self,
        n_clusters: int = 8,
        features: str | None = None,
        tap: str = "bottleneck",
        warmup: int = 1,
        signal: str = "cluster",
        label_signal: str | None = "bias_label",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.expect("n_clusters", n_clusters, n_clusters >= 1, "at least 1")
        self.expect("warmup", warmup, warmup >= 1, "at least 1 epoch")
        self.n_clusters, self.features, self.tap = n_clusters, features, tap
        self.warmup, self.signal, self.label_signal = warmup, signal, label_signal
        self.taps = () if features else (tap,)
        self.provides = (signal, label_signal) if label_signal else (signal,)

    def setup(self, run: Run) -> None:
        """Read the file, and make room for centroids, assignments, and features to collect."""
        given = None if self.features is None else load_features(self.features, run.n_samples)
        self.given = None if given is None else given.to(run.device)
        width = run.width(self.tap) if given is None else given.shape[1]
        # One row more, for rows that are not to be remembered, as in `SampleMemory`.
        shown = torch.zeros(run.n_samples + 1, width if given is None else 0)
        self.shown = shown.to(run.device)
        self.register_buffer("targets", torch.full((run.n_samples + 1,), -1))
        self.register_buffer("sums", torch.zeros(run.n_classes, self.n_clusters, width))
        self.register_buffer("mass", torch.zeros(run.n_classes, self.n_clusters))
        self.assigned = SampleMemory(run.n_samples)
        run.n_values[self.signal] = run.n_classes * self.n_clusters
        if self.label_signal:
            run.n_values[self.label_signal] = self.n_clusters

    def on_features(self, batch: Batch) -> None:
        """Collect what is to be clustered, and publish."""
        own = batch.features[self.tap] if self.given is None else self.given[batch.index]
        unit = F.normalize(own.detach(), dim=1)
        if batch.epoch == self.warmup - 1:
            self._collect(batch, unit)
        nearest, _ = clusters.assign(unit, batch.targets, self.sums, self.mass)
        known = self.assigned.read(batch.index)
        cluster = torch.where(known.isnan(), nearest, known).long()
        if batch.epoch >= self.warmup:
            self.assigned.update(batch.index, cluster, ~batch.mixed)
        batch.publish(self.signal, batch.targets * self.n_clusters + cluster)
        if self.label_signal:
            batch.publish(self.label_signal, cluster)

    def on_epoch_end(self, run: Run) -> None:
        """Cluster, at the end of the warm-up."""
        if run.epoch != self.warmup - 1:
            return
        source = self.shown[:-1] if self.given is None else F.normalize(self.given, dim=1)
        targets = self.targets[:-1]
        for target in range(run.n_classes):
            rows = (targets == target).nonzero().squeeze(1)
            unit = source[rows]
            seed = seeds.derive(run.seed, self.name, target)
            centroids, _ = k_means(unit.cpu(), self.n_clusters, 1, seed)
            self.sums[target, : len(centroids)] = centroids.to(unit)
            self.mass[target, : len(centroids)] = 1
            cluster, _ = clusters.assign(unit, targets[rows], self.sums, self.mass)
            self.assigned.table[rows] = cluster.to(self.assigned.table.dtype)
        self.shown = self.shown[:0].clone()  # what it held is not needed any more

    def _collect(self, batch: Batch, unit: Tensor) -> None:
        n_samples = len(self.targets) - 1
        slot = torch.where(batch.mixed, n_samples, batch.index)
        last = last_by_index(slot, torch.arange(len(slot), device=slot.device))
        self.targets.index_copy_(0, slot, batch.targets[last])
        if self.given is None:
            self.shown.index_copy_(0, slot, unit[last])

    def get_extra_state(self) -> dict[str, Tensor]:
        """Return the features collected so far; empty once they are clustered."""
        return {"shown": self.shown}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_extra_state` returned."""
        self.shown = state["shown"].to(self.run.device)


def load_features(path: str, n_samples: int) -> Tensor:
    """Read features `[N, D]`, float32, from a .npy file.

    Raises:
        ValueError: in one sentence, the file cannot be read, or does not hold N rows of numbers.
    """
    expected = f"expected a .npy file of shape ({n_samples}, D), one row a training sample"
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else error
        raise ValueError(
            f"OfflineClusters: features is {path!r}, {expected} ({reason})."
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise ValueError(f"OfflineClusters: features is {path!r}, {expected}, of numbers.")
    if array.ndim != 2 or len(array) != n_samples or not array.shape[1]:
        raise ValueError(
            f"OfflineClusters: features is {path!r}, {expected}, but its shape is {array.shape}."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"OfflineClusters: features is {path!r}, {expected}, all finite.")
    return torch.from_numpy(array.astype(np.float32))
