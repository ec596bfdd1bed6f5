"""Weigh clusters by how small and how hard they are."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from online_debias.engine import Batch, Callback, Run, SampleMemory
from online_debias.functional.weights import cluster_weights as maths


class ClusterWeights(Callback):
    """Weighs a row by N / N_c * L_c / sum L, of its class's cluster c, and learns the clusters.

    ClusterFix (Capitani et al., WACV 2024). Each class has a linear head that predicts the cluster
    from the features; its loss also trains the model. What L_c averages, and what moves slowly,
    differ between the paper and the released code:

    - "paper": the mean of the row's own loss and the head's; one moving average a cluster, taken
      in every step that shows the cluster.
    - "code": the head's loss only; one moving average a sample, taken when the sample is shown, of
      weights divided by their mean over the batch.

    L_c is over the loss that each sample of the cluster had when last seen, N_c the number of
    those samples. Moving averages start at 1.

    Signals: requires `cluster` (argument `signal`), the number target * k + c.
    Records: `terms/cluster_weights`, beta times the heads' mean loss; `weights/cluster_weights`,
    the mean factor.

    Args:
        variant: "paper" or "code".
        momentum: what a new weight counts in the moving average, in (0, 1].
        beta: weight of the heads' loss, above 0.
        tap: name of the features.
        signal: name of the cluster's number.
        name: unique in a run.

    Raises:
        ValueError: an argument is out of range; when the run is set up, the clusters do not divide
            evenly among the classes.

    Example:
        >>> ClusterWeights(variant="code", beta=0.01).requires
        ('cluster',)
    """

    average: Tensor

    def __init__(
        self,
        variant: Literal["paper", "code"] = "code",
        momentum: float = 0.3,
        beta: float = 0.5,
        tap: str = "bottleneck",
        signal: str = "cluster",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.expect("variant", variant, variant in ("paper", "code"), "'paper' or 'code'")
        self.expect("momentum", momentum, 0 < momentum <= 1, "0 < momentum <= 1")
        self.expect("beta", beta, beta > 0, "a number above 0")
        self.requires, self.taps = (signal,), (tap,)
        self.variant, self.momentum, self.beta = variant, momentum, beta
        self.tap, self.signal = tap, signal

    def setup(self, run: Run) -> None:
        """Make the heads, and the memories of losses, clusters and weights."""
        self.n_clusters = run.values_of(self.signal)
        k, rest = divmod(self.n_clusters, run.n_classes)
        if rest:
            raise ValueError(
                f"ClusterWeights: the signal {self.signal!r} has {self.n_clusters} values, "
                f"expected k for each of the {run.n_classes} classes, numbered target * k + c."
            )
        heads = torch.empty(run.n_classes, k, run.width(self.tap))
        for head in heads:
            nn.init.xavier_uniform_(head)
        self.head_weight = nn.Parameter(heads)
        self.head_bias = nn.Parameter(torch.full((run.n_classes, k), 0.01))
        self.losses, self.clusters = SampleMemory(run.n_samples), SampleMemory(run.n_samples)
        if self.variant == "paper":
            self.register_buffer("average", torch.ones(self.n_clusters))
        else:
            self.by_sample = SampleMemory(run.n_samples, 1 - self.momentum)
            self.by_sample.table.fill_(1)

    def on_loss(self, batch: Batch) -> None:
        """Add the heads' loss, update the weights, apply them."""
        assert batch.losses is not None
        cluster, keep = batch.signals[self.signal], ~batch.mixed
        pseudo = maths.own_pseudo_losses(
            batch.features[self.tap],
            batch.targets,
            cluster % self.head_weight.shape[1],
            self.head_weight,
            self.head_bias,
        )
        mean = torch.where(keep, pseudo, 0).sum() / keep.sum().clamp_min(1)
        batch.add_loss(self.name, self.beta * mean)

        hard = pseudo.detach()
        if self.variant == "paper":
            hard = (hard + batch.losses.detach()) / 2
        self.losses.update(batch.index, hard, keep)
        self.clusters.update(batch.index, cluster, keep)
        weights = maths.cluster_weights(
            *maths.cluster_means(self.losses.values, self.clusters.values, self.n_clusters)
        )
        factor = self._by_cluster if self.variant == "paper" else self._by_sample
        batch.reweight(self.name, factor(batch, weights))

    def _by_cluster(self, batch: Batch, weights: Tensor) -> Tensor:
        cluster, keep = batch.signals[self.signal], ~batch.mixed
        average = maths.average_visited(self.average, weights, cluster, keep, self.momentum)
        self.average.copy_(average)
        last = self.clusters.read(batch.index)  # a sample only seen mixed has none yet
        return torch.where(last.isnan(), 1.0, average[last.nan_to_num().long()])

    def _by_sample(self, batch: Batch, weights: Tensor) -> Tensor:
        keep = ~batch.mixed
        own = weights[self.clusters.read(batch.index).nan_to_num().long()]
        mean = torch.where(keep, own, 0).sum() / keep.sum().clamp_min(1)
        self.by_sample.update(batch.index, own / mean.clamp_min(1e-30), keep)
        return self.by_sample.read(batch.index)
