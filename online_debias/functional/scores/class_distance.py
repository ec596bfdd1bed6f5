"""How far rows are from classes that are known by their means."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ROUNDING = 1e-6  # of what is subtracted: float32 cannot tell apart what is nearer than that


def cosine_distance(x: Tensor, means: Tensor) -> Tensor:
    """Return 1 - cos(x, mean), `[B, C]`, at least `ROUNDING`.

    Args:
        x: features `[B, D]`.
        means: class means `[C, D]`.

    Example:
        >>> cosine_distance(torch.tensor([[2.0, 0.0]]), torch.eye(2))
        tensor([[1.0000e-06, 1.0000e+00]])
    """
    return (1 - F.normalize(x) @ F.normalize(means).T).clamp_min(ROUNDING)


def cosine_distance_between(means: Tensor, seen: Tensor) -> Tensor:
    """Return the mean cosine distance of two seen means, a scalar; 1 if there are no two.

    Args:
        means: class means `[C, D]`.
        seen: `[C]` bool, which of them are known.

    Example:
        >>> cosine_distance_between(torch.tensor([[1.0], [-1.0]]), torch.tensor([True, True]))
        tensor(2.)
    """
    unit = F.normalize(means) * seen[:, None]
    pairs = (seen.sum() * (seen.sum() - 1)).clamp_min(1)
    return 1 - (unit.sum(0).square().sum() - unit.square().sum()) / pairs


def squared_distance(x: Tensor, means: Tensor) -> Tensor:
    """Return |x - mean|^2, `[B, C]`, at least `ROUNDING` times the squares of both.

    The nearer the origin is to the data, the more exact.

    Args:
        x: features `[B, D]`.
        means: class means `[C, D]`.

    Example:
        >>> squared_distance(torch.tensor([[2.0, 0.0]]), torch.eye(2))
        tensor([[1., 5.]])
    """
    size = x.square().sum(1, keepdim=True) + means.square().sum(1)
    return torch.maximum(size - 2 * x @ means.T, ROUNDING * size)


def whitening(scatter: Tensor, mass: Tensor, between: Tensor, shrinkage: float) -> Tensor:
    """Return the matrix `[D, D]` that makes the covariance within classes the identity.

    The correlations are shrunk as if `shrinkage` rows a feature, all uncorrelated, had been seen
    besides; so few rows give a diagonal and many give the full matrix, whatever the scales. A
    feature that never varies has no say; one that varies between classes only says much, not all.

    Args:
        scatter: sum of mass * (x - mean of its class)(x - mean of its class)^T, `[D, D]`.
        mass: its mass, a scalar.
        between: variance of the class means, `[D]`.
        shrinkage: above 0.
    """
    width = len(scatter)
    variance = scatter.diagonal() / mass.clamp_min(1e-30) + 1e-4 * between
    scale = torch.where(variance > 1e-30, variance.clamp_min(1e-30).rsqrt(), 0.0)
    unit = torch.eye(width, dtype=scatter.dtype, device=scatter.device)
    prior = shrinkage * width
    correlation = (scale[:, None] * scatter * scale / mass.clamp_min(1e-30)).fill_diagonal_(1.0)
    shrunk = unit + (correlation - unit) * (mass / (mass + prior))
    factor, failed = torch.linalg.cholesky_ex(shrunk)  # does not wait for the device to report
    factor = torch.where(failed == 0, factor, unit)
    inverse: Tensor = torch.linalg.solve_triangular(factor, unit, upper=False)
    return inverse * scale


def mahalanobis_distance(x: Tensor, means: Tensor, whiten: Tensor) -> Tensor:
    """Return (x - mean)^T S^-1 (x - mean), `[B, C]`, S the same for all classes.

    Args:
        x: features `[B, D]`.
        means: class means `[C, D]`.
        whiten: W with W^T W = S^-1, `[D, D]`.
    """
    # Less than this many standard deviations from a mean, squared, is as good as on it.
    return squared_distance(x @ whiten.T, means @ whiten.T).clamp_min(1e-3)


def cell_depth(x: Tensor, means: Tensor, seen: Tensor, targets: Tensor) -> Tensor:
    """Return how far rows are beyond the boundary of their class's Voronoi cell, `[B]`.

    The largest signed distance, over the other classes, to the hyperplane between the two means,
    in units of the mean length of a mean: positive in another class's cell, negative in one's own.
    -inf where there is no other class. As in Nahon, Nguyen and Tartaglione, "Mining bias-target
    Alignment from Voronoi Cells" (ICCV 2023), who measure it for misclassified rows, towards the
    class that the model predicts.

    Args:
        x: features `[B, D]`.
        means: class means `[C, D]`.
        seen: `[C]` bool, which means are known.
        targets: `[B]` int64, seen classes.

    Example:
        >>> means, seen = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([True, True])
        >>> x = torch.tensor([[2.0, 0.0], [0.5, 0.5]])
        >>> cell_depth(x, means, seen, torch.tensor([0, 0]))
        tensor([1.4142, 0.0000])
    """
    count = seen.sum().clamp_min(1)
    length = (means.norm(dim=1) * seen).sum() / count
    centre = (means * seen[:, None]).sum(0) / count
    x, means = x - centre, means - centre
    # w.x + h of a hyperplane is half the difference of the squared distances to its two means.
    own = means[targets]
    square = squared_distance(x, means)
    beyond = square.gather(1, targets[:, None]) - square
    apart = squared_distance(own, means).sqrt()
    unknown = ~seen | (torch.arange(len(means), device=x.device) == targets[:, None])
    tiny = torch.finfo(x.dtype).tiny
    depth: Tensor = beyond / (2 * apart * length).clamp_min(tiny)
    return depth.masked_fill(unknown, -torch.inf).amax(1)


def nearness(distance: Tensor) -> Tensor:
    """Return p `[B, C]` proportional to 1 / distance: a soft answer to which class is nearest.

    With it 1 - p(target) / max p is 1 - nearest distance / own distance: 0 where the own class is
    the nearest, towards 1 where another is much nearer, whatever the scale of the features.

    Args:
        distance: `[B, C]` >= 0; inf for classes that are out of the question. All of them if
            nothing is known: every class is then as near as any other.

    Example:
        >>> nearness(torch.tensor([[1.0, 3.0, torch.inf]]))
        tensor([[0.7500, 0.2500, 0.0000]])
    """
    distance = distance.clamp_min(1e-30)
    ratio = (distance.amin(1, keepdim=True) / distance).nan_to_num(1.0)  # inf / inf
    return ratio / ratio.sum(1, keepdim=True)
