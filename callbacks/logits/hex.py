"""HEX: project the prediction of an image's texture out of the prediction of its class."""

from __future__ import annotations

from torch import nn

from online_debias.engine import Batch, Callback, Run
from online_debias.functional.logits.glcm import OFFSETS, co_occurrence
from online_debias.functional.logits.projection import project_out


class HEX(Callback):
    """Lets the criterion see only what texture statistics cannot predict.

    HEX (Wang, He, Lipton, Xing, ICLR 2019). A small branch g sees how often gray levels are
    neighbours and nothing else. With F_A = logits + V g, the prediction from both, and
    F_G = V g + b, the one from texture alone, the criterion sees F_A projected onto what is
    orthogonal to F_G over the batch. The model is used with its own logits. The paper learns
    the gray levels too; here they are cut evenly. A batch needs well over as many rows as there
    are classes. Mixed rows, being rows of the criterion, take part as they look.

    Signals: none.
    Records: `hex/share`, how much of the squared logits is left, as a share.

    Args:
        levels: number of gray levels, at least 2.
        width: of the branch's features.
        name: unique in a run.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> HEX(levels=8).name
        'hex'
    """

    def __init__(self, levels: int = 16, width: int = 32, name: str | None = None) -> None:
        super().__init__(name)
        self.expect("levels", levels, levels >= 2, "at least 2")
        self.expect("width", width, width >= 1, "at least 1")
        self.levels, self.width = levels, width

    def setup(self, run: Run) -> None:
        """Make the branch and its head."""
        n_cells = len(OFFSETS) * self.levels**2
        # Frequencies are about 1 / levels^2: the norm brings them to a scale that can be learned.
        self.branch = nn.Sequential(
            nn.LayerNorm(n_cells, elementwise_affine=False),
            nn.Linear(n_cells, self.width),
            nn.ReLU(),
            nn.Linear(self.width, self.width),
            nn.ReLU(),
        )
        self.head = nn.Linear(self.width, run.n_classes)

    def on_features(self, batch: Batch) -> None:
        """Shift the logits to their projection."""
        assert batch.logits is not None
        texture = self.head(self.branch(co_occurrence(batch.inputs, self.levels).flatten(1)))
        both = batch.logits + (texture - self.head.bias)
        left = project_out(both, texture)
        batch.shift_logits(self.name, left - batch.logits)
        squares = left.detach().square().sum(), batch.logits.detach().square().sum()
        self.run.record("hex/share", squares[0] / squares[1].clamp_min(1e-30))
