"""What a step of Composer's trainer costs, beside a loop written by hand and our trainer.

python benchmarks/peers/composer_step_cost.py [--rounds N] [--quick], see README.md

The three take turns, one step each, in one process, on the same batches and with one thread, and
CPU time is measured. Composer has no callback, logger or progress bar. The medians over the rounds,
each an epoch, are written to benchmarks/results/composer_step_cost.csv.
"""

from __future__ import annotations

import time
from typing import Any

import interleaved_timing
import peer_steps  # before step_cost and interleaved_timing: it says where they are
import torch
from step_cost import Batches, Loop, Model, by_hand, trainer
from torch import Tensor, nn

from online_debias.data import Images
from online_debias.functional.losses.cross_entropy import cross_entropy
from online_debias.runtime.torchvision_compat import import_torchvision
from online_debias.training.optimizer import make_optimizer

BESIDE = ("by hand", "plain")


def main() -> None:
    """Measure, print and write."""
    about = __doc__.splitlines()[0] if __doc__ else ""
    peer_steps.command(about, "composer_step_cost", BESIDE, measure)


def measure(make: Model, train: Images, batch_size: int, rounds: int) -> list[list[Any]]:
    """Return rows (loop, milliseconds, ratios)."""
    loops: dict[str, Loop] = {
        "by hand": by_hand(make, train, batch_size, 1 + rounds),
        "plain": trainer(make, train, batch_size, 1 + rounds, [], []),
        "Composer, no callbacks": composed(make, train, batch_size, 1 + rounds),
    }
    steps = len(train) // batch_size
    took = interleaved_timing.compare(loops, steps, 1, rounds, time.process_time)
    return interleaved_timing.per_step(took, steps, beside=BESIDE)


def composed(make: Model, train: Images, batch_size: int, epochs: int) -> Loop:
    """Return a loop of Composer's trainer."""
    import_torchvision()  # before Composer does
    from composer import ComposerModel
    from composer import Trainer as Composer

    class Composed(ComposerModel):  # type: ignore[misc]
        """The network, as Composer wants it."""

        def __init__(self) -> None:
            super().__init__()
            net: nn.Module = make()
            self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

        def forward(self, batch: Any) -> Tensor:
            logits: Tensor = self.net(batch[0])
            return logits

        def loss(self, outputs: Tensor, batch: Any) -> Tensor:
            return cross_entropy(outputs, batch[1]).mean()

    def fit(pause: interleaved_timing.Pause) -> None:
        torch.manual_seed(0)
        model = Composed()
        Composer(
            model=model,
            train_dataloader=interleaved_timing.Paused(Batches(train, batch_size), pause),
            device_train_microbatch_size=batch_size, max_duration=f"{epochs}ep",
            optimizers=make_optimizer(model, [], 8e-3, 0.0), device="cpu",
            progress_bar=False, auto_log_hparams=False,
        ).fit()  # fmt: skip

    return fit


if __name__ == "__main__":
    interleaved_timing.one_heap()
    main()
