"""LfF: a second network learns the bias, and what it finds hard weighs more in the model's loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from online_debias.engine import Batch, Callback, Run, SampleMemory
from online_debias.functional.losses.gce import generalized_cross_entropy, scaled_cross_entropy
from online_debias.functional.weights.mass_mean import mass_mean
from online_debias.functional.weights.relative_difficulty import relative_difficulty
from online_debias.models import SmallConvNet

Variant = Literal["paper", "code"]


class RelativeDifficulty(Callback):
    """Weighs rows by their relative difficulty for a network that is trained to be biased.

    LfF (Nam, Cha, Ahn, Lee, Shin, NeurIPS 2020). The second network sees the same images and is
    trained with generalised cross-entropy, which holds on to what is learned first. A sample's
    cross-entropies under both networks are remembered as moving averages, and it weighs
    e_b / (e_b + e_d), see `functional.weights.relative_difficulty`: hard for the biased network and
    easy for the model means much. The second network stays biased under resampling, since its rows
    count with 1 / rate. Mixed rows teach it nothing and are not remembered; they weigh what their
    sample does. The run scales weights to mean 1 over a batch; `normalize: none` leaves them as
    published.

    Signals: provides `bias_logits` (argument `signal`), the second network's logits.
    Records: `terms/relative_difficulty`, the loss of the second network;
    `weights/relative_difficulty`, the mean weight before it is scaled.

    Args:
        network: makes the second network from the number of classes; SmallConvNet by default.
        q: of generalised cross-entropy, above 0, up to 1.
        momentum: of each sample's moving averages.
        variant: "paper" has the generalised cross-entropy as its loss, "code" q times its gradient.
        signal: name of the published logits.
        name: unique in a run.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> RelativeDifficulty(network=lambda n: SmallConvNet(n, widths=(8, 8, 8))).provides
        ('bias_logits',)
    """

    targets: Tensor

    def __init__(
        self,
        network: Callable[[int], nn.Module] | None = None,
        q: float = 0.7,
        momentum: float = 0.7,
        variant: Variant = "paper",
        signal: str = "bias_logits",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if isinstance(network, nn.Module):
            raise ValueError(
                "RelativeDifficulty: network is a module, expected what makes one from the number "
                "of classes, so that its weights depend on the run's seed alone."
            )
        self.expect("q", q, 0 < q <= 1, "0 < q <= 1")
        self.expect("momentum", momentum, 0 <= momentum < 1, "0 <= momentum < 1")
        self.expect("variant", variant, variant in get_args(Variant), "'paper' or 'code'")
        self.provides = (signal,)
        self.make, self.q, self.momentum = network or SmallConvNet, q, momentum
        self.signal = signal
        self.criterion = generalized_cross_entropy if variant == "paper" else scaled_cross_entropy

    def setup(self, run: Run) -> None:
        """Make the second network, and the memories of losses and targets."""
        self.network = self.make(run.n_classes).train()
        self.biased = SampleMemory(run.n_samples, self.momentum)
        self.own = SampleMemory(run.n_samples, self.momentum)
        self.register_buffer("targets", torch.zeros(run.n_samples, dtype=torch.long))

    def on_features(self, batch: Batch) -> None:
        """Train the second network, publish what it says, weigh."""
        assert batch.logits is not None
        index, targets = batch.index, batch.targets
        logits = self.network(batch.inputs)
        batch.publish(self.signal, logits)
        mass = batch.mass
        batch.add_loss(self.name, mass_mean(self.criterion(logits, targets, self.q), mass))
        for memory, of in ((self.biased, logits), (self.own, batch.logits)):
            losses = F.cross_entropy(of.detach(), targets, reduction="none")
            memory.update(index, losses, ~batch.mixed)
        self.targets.index_copy_(0, index, targets)
        weight = relative_difficulty(
            self.biased.values, self.own.values, self.targets, index, self.run.n_classes
        )
        batch.reweight(self.name, weight)
