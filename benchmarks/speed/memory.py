"""How much memory training takes: `python benchmarks/speed/memory.py [--quick]`.

The most that a process ever held (its resident set) from when the data is there, for the loops of
step_cost.py, each in a process of its own; Linux only. Written to benchmarks/results/memory.csv.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import torch
from results_file import write
from step_cost import FIRST, SETTINGS, by_hand, recipe, trainer, what_of

LOOPS = ("by hand", "plain", "online")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="small network; nothing is written")
    parser.add_argument("--one", nargs=2, metavar=("SETTING", "LOOP"), help="in this process")
    given = parser.parse_args()
    if given.one:
        print(peak(*given.one))
        return
    rows = []
    for setting in SETTINGS[: 1 if given.quick else None]:
        held = {loop: apart(setting, loop) for loop in LOOPS}
        for loop in LOOPS:
            rows.append([setting, loop, f"{held[loop]:.0f}", f"{held[loop] / held['by hand']:.2f}"])
            print(*rows[-1], flush=True)
    if not given.quick:
        write("memory", ["setting", "loop", "peak_mb", "ratio_to_by_hand"], rows)


def apart(setting: str, loop: str) -> float:
    """Return what one loop takes at most in a process of its own, in megabytes."""
    command = [sys.executable, __file__, "--one", setting, loop]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak(setting: str, loop: str) -> float:
    """Return the most that this process held, after some epochs of one loop, in megabytes."""
    torch.set_num_threads(1)
    epochs = FIRST + 1  # one in which samples are drawn unevenly
    make, train, batch_size = what_of(setting)
    if loop != "by hand":  # as `online-debias train` keeps the images, which copies no more then
        train = train.to("cpu", torch.channels_last)
    Path("/proc/self/clear_refs").write_text("5")  # what making the data took does not count
    if loop == "by hand":
        run = by_hand(make, train, batch_size, epochs)
    else:
        callbacks = recipe("online") if loop == "online" else []
        run = trainer(make, train, batch_size, epochs, callbacks, [])
    run(lambda: None)
    # Of the process itself; what getrusage says begins with what its parent held.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


if __name__ == "__main__":
    main()
