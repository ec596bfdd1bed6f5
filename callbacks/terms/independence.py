"""ReBias: features that are independent of those of a network that can only be biased."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import nn

from online_debias.engine import Batch, Callback, Run
from online_debias.functional.losses.hsic import hsic, rbf_kernel
from online_debias.functional.weights.mass_mean import mass_mean
from online_debias.models import SimpleConvNet
from online_debias.taps.taps import Taps


class Independence(Callback):
    """Makes the features independent of a second network's, which sees small patches only.

    ReBias (Bahng, Chun, Yun, Choo, Oh, ICML 2020). The second network has a receptive field too
    small for anything but colour and texture; it learns the classes and to be as dependent on the
    model as it can, the model to be independent of it. Dependence is HSIC with RBF kernels. One
    backward trains both: each sees the other's features detached. Unlike the release, the width of
    a kernel is relative to the distances in the batch (see `functional.losses.hsic`): a width of 1
    on raw features says nothing where distances are about 10. Mixed rows count in no part of it.

    Signals: none.
    Records: `terms/independence`, the model's HSIC term; `terms/independence_head`, the loss of the
    second network.

    Args:
        network: makes the second network from the number of classes; SimpleConvNet with 1x1 kernels
            by default. Its features are the input of its last Linear.
        weight: of HSIC, above 0, for both networks.
        sigma: width of the kernels, in units of the root mean square distance.
        tap: name of the model's features.
        name: unique in a run.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> Independence(weight=0.5).taps
        ('bottleneck',)
    """

    def __init__(
        self,
        network: Callable[[int], nn.Module] | None = None,
        weight: float = 1.0,
        sigma: float = 1.0,
        tap: str = "bottleneck",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if isinstance(network, nn.Module):
            raise ValueError(
                "Independence: network is a module, expected what makes one from the number of "
                "classes, so that its weights depend on the run's seed alone."
            )
        self.expect("weight", weight, weight > 0, "a number above 0")
        self.expect("sigma", sigma, sigma > 0, "a number above 0")
        self.make: Callable[[int], nn.Module] = network or _sees_colour_only
        self.taps = (tap,)
        self.weight, self.sigma, self.tap = weight, sigma, tap

    def setup(self, run: Run) -> None:
        """Make the second network."""
        self.network = self.make(run.n_classes).train()
        self.tapped = Taps(self.network, None, {"bottleneck"})

    def on_features(self, batch: Batch) -> None:
        """Add the model's term and the second network's loss."""
        self.tapped.start()
        logits = self.network(batch.inputs)
        other = self.tapped.finish()["bottleneck"]
        keep, mass = ~batch.mixed, batch.mass
        losses = F.cross_entropy(logits, batch.targets, reduction="none")
        kernel = rbf_kernel(batch.features[self.tap], keep, self.sigma)
        biased = rbf_kernel(other, keep, self.sigma)
        batch.add_loss(self.name, self.weight * hsic(kernel, biased.detach(), keep))
        dependence = self.weight * hsic(kernel.detach(), biased, keep)
        batch.add_loss(f"{self.name}_head", mass_mean(losses, mass) - dependence)


def _sees_colour_only(n_classes: int) -> nn.Module:
    return SimpleConvNet(n_classes, kernel_size=1)
