"""What a step of Composer's trainer costs, beside a loop written by hand and our trainer.

python benchmarks/peers/composer_step_cost.py [--rounds N] [--quick], see README.md

The three take turns, one step each, in one process, on the same batches and with one thread, and
CPU time is measured. Composer has no callback, logger or progress bar. The medians over the rounds,
each an epoch, are written to benchmarks/results/composer_step_cost.csv.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from online_debias.data import Images
from online_debias.functional.cross_entropy import cross_entropy
from online_debias.optimizer import make_optimizer
from online_debias.torchvision_compat import import_torchvision

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # where step_cost's modules are

import turns  # noqa: E402
from step_cost import SETTINGS, Batches, Loop, Model, by_hand, trainer, what_of, write  # noqa: E402

RESULTS = Path(__file__).resolve().parent.parent / "results/composer_step_cost.csv"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="one round; nothing is written")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rounds = 1 if given.quick else given.rounds
    make, train, batch_size = what_of(SETTINGS[0])
    loops: dict[str, Loop] = {
        "by hand": by_hand(make, train, batch_size, 1 + rounds),
        "plain": trainer(make, train, batch_size, 1 + rounds, [], []),
        "Composer, no callbacks": composed(make, train, batch_size, 1 + rounds),
    }
    steps, sides = len(train) // batch_size, {n: turns.steps_of(x) for n, x in loops.items()}
    turns.interleave(sides, steps, 1, time.process_time)
    took = turns.interleave(sides, steps, rounds, time.process_time)
    rows = turns.per_step(took, steps, beside=("by hand", "plain"))
    if not given.quick:
        heads = ["setting", "loop", "milliseconds_per_step", "ratio_to_by_hand", "ratio_to_plain"]
        write(RESULTS, heads, [[SETTINGS[0], *row] for row in rows])


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

    def fit(pause: turns.Pause) -> None:
        torch.manual_seed(0)
        model = Composed()
        Composer(
            model=model, train_dataloader=turns.Paused(Batches(train, batch_size), pause),
            device_train_microbatch_size=batch_size, max_duration=f"{epochs}ep",
            optimizers=make_optimizer(model, [], 8e-3, 0.0), device="cpu",
            progress_bar=False, auto_log_hparams=False,
        ).fit()  # fmt: skip

    return fit


if __name__ == "__main__":
    turns.one_heap()
    main()
