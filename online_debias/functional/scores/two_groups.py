"""Whether values fall into two groups, and where to part them."""

from __future__ import annotations

import torch
from torch import Tensor


def two_groups(values: Tensor) -> tuple[Tensor, Tensor]:
    """Part values so that the two sides differ most; say how much of their spread that explains.

    Otsu's threshold ("A threshold selection method from gray-level histograms", 1979), exact: of
    all splits of the sorted values that with the largest variance between the sides.

    Args:
        values: `[N]`, NaN where there is none.

    Returns:
        The threshold, half-way between the values on both sides of the split, and the share of the
        variance between the sides, in [0, 1]: about .64 for a bell, .75 for values spread
        evenly, 1 for two points. Both 0-dim; infinity and 0 for fewer than two unlike values.

    Example:
        >>> two_groups(torch.tensor([0.1, 0.9, 0.0, 1.0]))
        (tensor(0.5000), tensor(0.9878))
    """
    if len(values) < 2:
        return values.new_tensor(torch.inf), values.new_tensor(0.0)
    ordered = values.double().sort().values  # NaN comes last
    present = (~ordered.isnan()).to(ordered.dtype)
    ordered = ordered.nan_to_num()
    n, total = present.sum(), ordered.sum()
    low_n, low_sum = present.cumsum(0), ordered.cumsum(0)
    high_n = n - low_n
    apart = low_sum / low_n.clamp_min(1) - (total - low_sum) / high_n.clamp_min(1)
    between = low_n * high_n * apart.square() / n.clamp_min(1).square()
    spread = (present * (ordered - total / n.clamp_min(1)).square()).sum() / n.clamp_min(1)
    best = between.argmax().clamp_max(len(ordered) - 2)
    sides = ordered.index_select(0, torch.stack([best, best + 1]))
    found = spread > 1e-12
    share = torch.where(found, between.amax() / spread.clamp_min(1e-12), 0.0)
    threshold = torch.where(found, sides.mean(), torch.inf)
    return threshold.to(values.dtype), share.to(values.dtype)
