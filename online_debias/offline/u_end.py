"""U-EnD: clusters of a plain model's features stand for the bias that EnD needs to know."""

from __future__ import annotations

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from online_debias.detectors.posterior import conflict
from online_debias.functional.weights.k_means import k_means
from online_debias.offline.retrain import retrain
from online_debias.offline.two_step import bottleneck
from online_debias.runs.pipeline import Pipeline, PipelineResult, TrainingJob
from online_debias.runtime import seeds


class UEnD(Pipeline):
    """Takes clusters of a plain model's features for bias values, then trains with them.

    Unsupervised EnD (Barbano, Tartaglione, Grangetto, arXiv 2204.12941), in two trainings: (1)
    "first", a plain model, which takes the bias up; (2) a fresh model with the callbacks of the
    settings: the method `u-end` has `EnD`. Between them the bottleneck features of all training
    images, whatever their class, are clustered by k-means. An image's pseudo bias label is its
    cluster; its score is 1 - n(target) / max n(class), counted in its cluster: above 1/2 where the
    class is less than half as common there as the most common one.

    The number of clusters is not searched for: it is that of the classes, unless given.

    Args:
        n_clusters: number of clusters; None: as many as classes.
        first_epochs: length of (1); None: that of the settings. A model that has learned even the
            conflicting images by heart shows the bias less.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> UEnD(n_clusters=8).n_clusters
        8
    """

    def __init__(self, n_clusters: int | None = None, first_epochs: int | None = None) -> None:
        if n_clusters is not None and n_clusters < 2:
            raise ValueError(f"UEnD: n_clusters is {n_clusters}, expected at least 2, or None.")
        if first_epochs is not None and first_epochs < 1:
            raise ValueError(f"UEnD: first_epochs is {first_epochs}, expected at least 1, or None.")
        self.n_clusters, self.first_epochs = n_clusters, first_epochs

    def fit(self, job: TrainingJob) -> PipelineResult:
        """Train, cluster, train anew."""
        epochs = self.first_epochs or job.settings.epochs
        first = job.trainer("first", settings=replace(job.settings, epochs=epochs))
        first.fit()
        with job.between_trainings():
            n_classes, targets = len(job.train.classes), job.train.targets.cpu()
            features, _ = bottleneck(first, job.train, tap=job.settings.taps.get("bottleneck"))
            seed = seeds.derive(job.settings.seed, "u_end")
            _, cluster = k_means(features, self.n_clusters or n_classes, 10, seed)
            score = composition_score(cluster, targets, n_classes)
        return retrain(job, [first], score, cluster)


def composition_score(cluster: Tensor, targets: Tensor, n_classes: int) -> Tensor:
    """Return 1 - n(target) / max n(class) `[N]`, counted in each row's cluster.

    Args:
        cluster: `[N]` int64.
        targets: `[N]` int64.
        n_classes: number of classes.

    Example:
        >>> import torch
        >>> composition_score(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 1]), 2)
        tensor([0.0000, 0.0000, 0.5000, 0.0000])
    """
    of_class = F.one_hot(targets, n_classes).float()
    counts = of_class.new_zeros(int(cluster.max()) + 1, n_classes).index_add(0, cluster, of_class)
    return conflict(counts[cluster], targets)
