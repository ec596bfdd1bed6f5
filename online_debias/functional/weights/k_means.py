"""k-means of all rows at once."""

from __future__ import annotations

import torch
from torch import Tensor


def k_means(rows: Tensor, n_clusters: int, n_starts: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the centroids `[k, D]`, and the cluster `[N]` of each row, int64.

    Args:
        rows: `[N, D]` on the CPU; N may be 0.
        n_clusters: how many clusters to look for; k is less where there are fewer distinct rows.
        n_starts: random starts, of which the best counts.
        seed: decides where they start.

    Example:
        >>> centroids, cluster = k_means(torch.tensor([[0.0], [2.0], [9.0]]), 2, 10, seed=0)
        >>> bool(cluster[0] == cluster[1] != cluster[2]), centroids[cluster].flatten().tolist()
        (True, [1.0, 1.0, 9.0])
    """
    from sklearn.cluster import KMeans  # slow to import
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    k = min(n_clusters, len(rows.unique(dim=0)))
    if k == 0:
        return rows, torch.zeros(0, dtype=torch.int64)
    with threadpool_limits(1):  # several threads would add up in any order
        found = KMeans(k, n_init=n_starts, random_state=seed % 2**32).fit(rows.double().numpy())
    centroids, cluster = map(torch.from_numpy, (found.cluster_centers_, found.labels_))
    return centroids.to(rows.dtype), cluster.long()
