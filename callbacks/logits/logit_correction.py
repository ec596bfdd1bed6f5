"""LC: correct the logits for how often a class comes with what the biased view sees."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from online_debias.engine import Batch, Callback, Run
from online_debias.functional.logits.logit_correction import certain, correction, joint_mass


class LogitCorrection(Callback):
    """Adds tau * log p(class | bias value) to the logits that the criterion sees.

    LC (Liu, Zhang, Sekhar, Wu, Singhal, Fernandez-Granda, ICLR 2023): logit adjustment with a
    prior that depends on the bias value, so that the model's own logits become those of a data set
    in which each bias value goes with all classes alike. The joint frequency of bias value and
    class is a moving average over batches; rows count with 1 / rate, and mixed rows do not count,
    though they are corrected too. A batch is corrected first and learned after, or a rare row would
    vouch for itself. The paper's second part, group mixup, is `CrossBiasMix`.

    Signals: requires `bias_logits` (argument `signal`).
    Records: `correct/target`, the mean correction of the rows' targets: far below 0 for a
    conflicting row, near 0 for an aligned one.

    Args:
        tau: strength; 1 is what the derivation asks for.
        momentum: of the moving average.
        belief: "soft" believes the biased view's probabilities, "hard", as released, its argmax.
        smoothing: share of even frequencies that is mixed in, in (0, 1); bounds the correction.
        signal: name of the biased view's logits.
        name: unique in a run.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> LogitCorrection(belief="hard").requires
        ('bias_logits',)
    """

    joint: Tensor

    def __init__(
        self,
        tau: float = 1.0,
        momentum: float = 0.99,
        belief: Literal["soft", "hard"] = "soft",
        smoothing: float = 1e-3,
        signal: str = "bias_logits",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.expect("tau", tau, tau > 0, "a number above 0")
        self.expect("momentum", momentum, 0 <= momentum < 1, "0 <= momentum < 1")
        self.expect("belief", belief, belief in ("soft", "hard"), "'soft' or 'hard'")
        self.expect("smoothing", smoothing, 0 < smoothing < 1, "0 < smoothing < 1")
        self.requires = (signal,)
        self.tau, self.momentum, self.smoothing = tau, momentum, smoothing
        self.hard, self.signal = belief == "hard", signal

    def setup(self, run: Run) -> None:
        """Make the table of joint frequencies, `[bias value, class]`, empty."""
        self.register_buffer("joint", torch.zeros(run.n_classes, run.n_classes))

    def on_features(self, batch: Batch) -> None:
        """Correct, then learn."""
        belief = batch.signals[self.signal].softmax(1)
        if self.hard:
            belief = certain(belief.argmax(1), belief.shape[1])
        shift = self.tau * correction(belief, self.joint, self.smoothing)
        batch.shift_logits(self.name, shift)
        of_target = shift.gather(1, batch.targets[:, None])
        self.run.record("correct/target", of_target.mean())
        self._learn(joint_mass(belief, batch.targets, batch.mass))

    def _learn(self, seen: Tensor) -> None:
        total = seen.sum()
        # The table starts at 0 and only its shares are read, so the first batch counts in full;
        # one without any mass is passed over.
        part = torch.where(total > 0, 1 - self.momentum, 0.0)
        self.joint.lerp_(seen / total.clamp_min(1e-30), part)
