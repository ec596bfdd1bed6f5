"""EnD: entangle rows of one class, disentangle rows of one bias value, at the bottleneck."""

from __future__ import annotations

import torch

from online_debias.engine import Batch, Callback
from online_debias.functional.losses.end import Variant, disentangle, entangle


class EnD(Callback):
    """Adds alpha * disentangle + beta * entangle to the loss, at the bottleneck.

    EnD (Tartaglione, Barbano, Grangetto, CVPR 2021), with pseudo bias labels instead of true ones.
    Paper and released code differ, see `functional.losses.end`. In the released code the normalised
    features also go on to the classifier: to have that, give the tap a transform,
    `Tap(path, transform=torch.nn.functional.normalize)`. Once the verdict is that there is no
    shortcut, both are 0.

    Signals: requires `bias_label` (argument `signal`); leaves out what `noise` flags, if that is
    published (argument `unless`).
    Records: `terms/end`, the weighted sum of the two terms.

    Args:
        alpha: weight of the disentangling term.
        beta: weight of the entangling term.
        variant: "paper" or "code".
        signal: name of the bias label.
        unless: name of a score; rows whose sample it flags count as bias-aligned.
        tap: name of the features.
        name: unique in a run.

    Example:
        >>> EnD(alpha=0.0, beta=1.0).requires
        ('bias_label',)
    """

    def __init__(
        self,
        alpha: float = 0.1,
        beta: float = 0.1,
        variant: Variant = "paper",
        signal: str = "bias_label",
        tap: str = "bottleneck",
        unless: str | None = "noise",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.expect("variant", variant, variant in ("paper", "code"), "'paper' or 'code'")
        if not (alpha >= 0 and beta >= 0 and alpha + beta > 0):
            raise ValueError(
                f"EnD: alpha is {alpha} and beta {beta}, expected numbers >= 0, not both 0."
            )
        self.requires, self.optional = (signal,), (unless,) if unless else ()
        self.taps = (tap,)
        self.alpha, self.beta, self.variant = alpha, beta, variant
        self.signal, self.tap, self.unless = signal, tap, unless

    def on_loss(self, batch: Batch) -> None:
        """Add the two terms."""
        if self.run.shortcut.rests(self.signal):
            batch.add_loss(self.name, torch.zeros((), device=batch.targets.device))
            return
        features, bias = batch.features[self.tap], batch.signals[self.signal]
        flagged = self.run.samples.flagged(self.unless, batch.index)
        bias = torch.where(flagged, batch.targets, bias)
        keep = batch.known[self.signal]
        term = torch.zeros((), device=features.device)
        if self.alpha:
            term = term + self.alpha * disentangle(features, bias, keep, self.variant)
        if self.beta:
            term = term + self.beta * entangle(features, batch.targets, bias, keep, self.variant)
        batch.add_loss(self.name, term)
