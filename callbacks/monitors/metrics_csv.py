"""Write every number of a run to one CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from online_debias.engine import Monitor, Run
from online_debias.functional.metrics import Report
from online_debias.memory.recorder import Scalar
from online_debias.runtime import metrics_csv
from online_debias.runtime.checkpoint import write_whole

HEADER = f"{metrics_csv.COLUMNS}\n".encode()


class MetricsCSV(Monitor):
    """Writes recorded scalars and evaluations, one number a row: `step,epoch,split,name,value`.

    A recorded scalar has the split "train" and its whole tag as name; an evaluation has its own
    split, the name of the metric, and `group/<target>_<bias>` for the accuracy of a group. Values
    are written so that reading them back gives the same float. A resumed run first takes the file
    back to what it was when the checkpoint was written, so no row is there twice; a new run begins
    the file anew.

    Args:
        path: the file; missing folders are made.

    Raises:
        OSError: on the start of the fit, if the file cannot be written.

    Example:
        >>> MetricsCSV("runs/first/metrics.csv").path.name
        'metrics.csv'
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._rows: list[tuple[int, int, str, str, float]] = []
        self._size: int | None = None  # bytes written; None: not known

    def on_fit_start(self, run: Run) -> None:
        """Write the header, or drop what was written after the checkpoint."""
        content = HEADER
        if run.step > 0 and self.path.is_file():
            lines = self.path.read_bytes()[: self._size].splitlines(keepends=True)[1:]
            content += b"".join(line for line in lines if _is_past(line, run.step))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, content)
        self._size = len(content)

    def on_scalars(self, scalars: Sequence[Scalar], run: Run) -> None:
        """Take the scalars; they are written at the next flush."""
        self._rows += [(s.step, s.epoch, "train", s.name, s.value) for s in scalars]

    def on_evaluate(self, report: Report, run: Run) -> None:
        """Write the evaluation."""
        values = dict(report.metrics)
        for (target, bias), (accuracy, _) in report.groups.items():
            values[f"group/{target}_{bias}"] = accuracy
        self._rows += [
            (report.step, report.epoch, report.split, name, value) for name, value in values.items()
        ]
        self._flush()

    def on_epoch_end(self, run: Run) -> None:
        """Write what was taken."""
        self._flush()

    def on_save(self, run: Run) -> None:
        """Write what was taken; the checkpoint remembers how far the file went."""
        self._flush()

    def on_exception(self, run: Run, error: BaseException) -> None:
        """Write what was taken."""
        self._flush()

    def on_fit_end(self, run: Run) -> None:
        """Write what was taken."""
        self._flush()

    def state_dict(self) -> dict[str, Any]:
        """How far the file went."""
        return {"size": self._size}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self._size = state.get("size")

    def _flush(self) -> None:
        if self._size is None or not self._rows:
            return
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(self._rows)
        content = text.getvalue().encode()
        with self.path.open("ab", buffering=0) as file:  # one write: a kill leaves whole lines
            file.write(content)
        self._rows = []
        self._size += len(content)


def _is_past(line: bytes, step: int) -> bool:
    return line.endswith(b"\n") and int(line.split(b",", 1)[0]) <= step
