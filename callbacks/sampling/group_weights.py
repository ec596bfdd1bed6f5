"""GroupDRO: weigh (target, bias) groups by how they fare, and draw them evenly."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from online_debias.engine import Batch, Callback, Run
from online_debias.functional.weights.group_dro import (
    balanced_rates,
    exponentiated_update,
    group_means,
    group_sizes,
    row_factors,
)


class GroupWeights(Callback):
    """Minimises sum q_g L_g, where the share q_g grows with the loss L_g of group g.

    GroupDRO (Sagawa, Koh, Hashimoto, Liang, ICLR 2020), online: a group is a cell of target and
    bias value, of pseudo bias labels or, with an oracle, of true ones. In every step
    q_g <- q_g exp(step_size (L_g + adjustment / sqrt(n_g))), scaled to sum 1; a group without a row
    in the batch counts as loss 0, as in the released code. So rows of g weigh B q_g / (rows of g).
    A run scales weights to mean 1 over the batch; `normalize: none` gives the loss to the letter.

    Mixed rows weigh what others of their group do, and do not count in L_g and n_g.

    Signals: requires `bias_label` (argument `signal`).
    Records: `weights/group_weights`, the mean factor; `groups/largest_share`, the largest q_g;
    `groups/max_rate`, how much oftener than before the most drawn sample is drawn, if groups are
    balanced.

    Args:
        step_size: of the exponentiated gradient step on q.
        adjustment: C of the generalisation adjustment; n_g is counted at the end of each epoch.
        balance: draw groups evenly from the second epoch on, by the group each sample was last
            seen in. Needs `sampler=engine.sampler()` in an own loop.
        limit: largest sampling factor, above 1, so that a group that consists of a few samples
            with a wrong pseudo label does not fill the batches.
        signal: name of the bias label.
        unless: name of a score; samples that it flags count as bias-aligned.
        name: unique in a run.

    Raises:
        ValueError: a number is out of range.

    Example:
        >>> GroupWeights(step_size=0.1, balance=False).requires
        ('bias_label',)
    """

    log_share: Tensor
    sizes: Tensor

    def __init__(
        self,
        step_size: float = 0.01,
        adjustment: float = 0.0,
        balance: bool = True,
        limit: float = 50.0,
        signal: str = "bias_label",
        unless: str | None = "noise",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.expect("step_size", step_size, 0 < step_size < math.inf, "a finite number above 0")
        self.expect("adjustment", adjustment, 0 <= adjustment < math.inf, "a finite number >= 0")
        self.expect("limit", limit, limit > 1, "a number above 1")
        self.requires, self.optional = (signal,), (unless,) if unless else ()
        self.unless = unless
        self.step_size, self.adjustment = step_size, adjustment
        self.balance, self.limit, self.signal = balance, limit, signal

    def setup(self, run: Run) -> None:
        """Make even shares."""
        self.n_values = run.values_of(self.signal)
        self.n_groups = run.n_classes * self.n_values
        self.register_buffer("log_share", torch.zeros(self.n_groups).log_softmax(0))
        self.register_buffer("sizes", torch.zeros(self.n_groups))

    def on_loss(self, batch: Batch) -> None:
        """Move the shares, weigh the rows."""
        assert batch.losses is not None
        flagged = self.run.samples.flagged(self.unless, batch.index)
        label = torch.where(flagged, batch.targets, batch.signals[self.signal])
        group, keep = self._groups(batch.targets, label), ~batch.mixed
        means = group_means(batch.losses.detach(), group, keep, self.n_groups)
        self.log_share.copy_(
            exponentiated_update(self.log_share, means, self.sizes, self.step_size, self.adjustment)
        )
        share = self.log_share.exp()
        batch.reweight(self.name, row_factors(share, group))
        self.run.record("groups/largest_share", share.max())

    def on_epoch_end(self, run: Run) -> None:
        """Count the groups and propose the factors for the next round."""
        label = run.samples.values(self.signal, self.unless)
        groups = self._groups(run.samples.targets, label.nan_to_num()).to(label.dtype)
        groups = groups.masked_fill(label.isnan(), torch.nan)
        self.sizes.copy_(group_sizes(groups, self.n_groups))
        if self.balance:
            factor = balanced_rates(groups, self.sizes, self.limit)
            run.resample(self.name, None, factor)
            run.record("groups/max_rate", factor.max())

    def _groups(self, targets: Tensor, label: Tensor) -> Tensor:
        """Return the number of each one's group, a cell of target and bias label."""
        return targets * self.n_values + label.long().clamp(0, self.n_values - 1)
