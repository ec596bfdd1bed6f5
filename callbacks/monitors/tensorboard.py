"""Show a run in TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from torch import Tensor

from online_debias.callback import Monitor
from online_debias.data.images import Images
from online_debias.metrics import Report
from online_debias.record import Scalar
from online_debias.run import Run

from .detection import Detection

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LAYOUT = {
    "Without labels": {
        "share of samples flagged": ["Multiline", ["detect/share_flagged"]],
        "effective sample size": ["Multiline", ["weights/ess"]],
        "accuracy by pseudo-group": ["Multiline", ["train/accuracy_pseudo_.*"]],
    },
    "With bias labels": {
        "test accuracy": ["Multiline", ["eval/accuracy.*"]],
        "detection": ["Multiline", ["detect/auroc", "detect/average_precision"]],
        "loss weight on conflicting rows": ["Multiline", ["weights/share_conflicting"]],
    },
    "Training": {
        "loss": ["Multiline", ["train/loss"]],
        "loss terms": ["Multiline", ["terms/.*"]],
        "milliseconds": ["Multiline", ["time/.*"]],
    },
}


class TensorBoard(Monitor):
    """Writes TensorBoard event files: curves, the images that look conflicting, the settings.

    The x-axis is the optimizer step everywhere. Recorded scalars keep their tags; the test split
    is under `eval/`, other splits under their own name. After each epoch, from the scores that
    `detection` remembers: with images, `detect/top_scored`, `detect/lowest_scored` and a histogram
    `scores/<class>`; with bias annotations, the precision-recall curve `detect/pr`. The final test
    metrics and settings make one entry in the HParams tab, in the run's own folder.

    Args:
        folder: where the event files go.
        detection: the monitor whose scores to show.
        images: the training images.
        settings: the run's settings, shown as text and in the HParams tab.

    Example:
        >>> detection = Detection()
        >>> monitors = [detection, TensorBoard("runs/first", detection, settings={"lr": 4e-3})]
    """

    def __init__(
        self,
        folder: str | Path,
        detection: Detection | None = None,
        images: Images | None = None,
        settings: Mapping[str, object] = {},
    ) -> None:
        self.folder, self.detection, self.images = Path(folder), detection, images
        # Paths and other things that YAML has no words for are shown as text.
        self.settings: dict[str, Any] = json.loads(json.dumps(dict(settings), default=str))
        self._final: dict[str, float] = {}
        self._writer: SummaryWriter | None = None

    def on_fit_start(self, run: Run) -> None:
        """Open an event file; what an interrupted run wrote after its checkpoint is purged."""
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        # The checkpoint's own step stays: its evaluation will not be repeated.
        purge_step = run.step + 1 if run.step else None
        writer = SummaryWriter(str(self.folder), purge_step=purge_step)
        writer.add_custom_scalars(LAYOUT)
        if self.settings:
            text = yaml.safe_dump(self.settings, sort_keys=False)
            writer.add_text("settings", f"```yaml\n{text}```", run.step)
        self._writer = writer

    def on_scalars(self, scalars: Sequence[Scalar], run: Run) -> None:
        """Draw the scalars under their own tags."""
        for scalar in scalars:
            self._scalar(scalar.name, scalar.value, scalar.step)

    def on_evaluate(self, report: Report, run: Run) -> None:
        """Draw the evaluation."""
        group = "eval" if report.split == "test" else report.split
        values = {f"{group}/{name}": value for name, value in report.metrics.items()}
        if report.split == "test":
            self._final = values
        for (target, bias), (accuracy, _) in report.groups.items():
            values = {**values, f"{group}/group/{target}_{bias}": accuracy}
        for tag, value in values.items():
            self._scalar(tag, value, report.step)

    def on_epoch_end(self, run: Run) -> None:
        """Show the scores."""
        if self._writer is None or self.detection is None or self.detection.scores is None:
            return
        scores = self.detection.scores.cpu()
        seen = (~scores.isnan()).nonzero().flatten()
        if len(seen):
            self._show_scores(self._writer, scores, seen, run.step)
        self._writer.flush()

    def on_save(self, run: Run) -> None:
        """Write to disk what the checkpoint is a checkpoint of."""
        self._flush()

    def on_exception(self, run: Run, error: BaseException) -> None:
        """Write to disk what there is."""
        self._flush()

    def on_fit_end(self, run: Run) -> None:
        """Add the HParams entry and close the file."""
        if self._writer is None:
            return
        if self.settings or self._final:
            from torch.utils.tensorboard.summary import hparams

            # add_hparams would make a second run for it, in a folder named by the time.
            parts = hparams(_flat(self.settings), self._final)
            for part in parts:
                self._writer.file_writer.add_summary(part, run.step)  # type: ignore[attr-defined]
        self._writer.close()
        self._writer = None

    def _scalar(self, tag: str, value: float, step: int) -> None:
        if self._writer is not None:
            self._writer.add_scalar(tag, value, step)

    def _flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()

    def _show_scores(self, writer: SummaryWriter, scores: Tensor, seen: Tensor, step: int) -> None:
        assert self.detection is not None
        conflicting = self.detection.conflicting
        if conflicting is not None:
            labels = conflicting.cpu()[seen]
            writer.add_pr_curve("detect/pr", labels, scores[seen].clamp(0, 1), step)
        if self.images is None:
            return
        order = seen[scores[seen].argsort(descending=True)]
        for tag, chosen in (("top_scored", order[:32]), ("lowest_scored", order.flip(0)[:32])):
            pixels = self.images.images[chosen.to(self.images.images.device)]
            writer.add_image(f"detect/{tag}", grid(pixels.cpu()), step)
        targets = self.images.targets.cpu()[seen]
        for label, name in enumerate(self.images.classes):
            of_class = scores[seen][targets == label].numpy()
            if len(of_class):
                writer.add_histogram(f"scores/{name}", of_class, step, bins=50)


def grid(images: Tensor, columns: int = 8, gap: int = 2) -> Tensor:
    """Lay images out row by row on white; small ones are enlarged, two- or threefold.

    Args:
        images: `[K, C, H, W]` uint8.
        columns: images a row.
        gap: pixels between images.

    Returns:
        `[C, H', W']` uint8.

    Example:
        >>> grid(torch.zeros(3, 1, 28, 28, dtype=torch.uint8), columns=2).shape
        torch.Size([1, 170, 170])
    """
    scale = min(3, max(1, 96 // images.shape[-2]))
    images = images.repeat_interleave(scale, -2).repeat_interleave(scale, -1)
    images = torch.nn.functional.pad(images, (0, gap, 0, gap), value=255)
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    cells = images.new_full((rows * columns, channels, height, width), 255)
    cells[:count] = images
    cells = cells.view(rows, columns, channels, height, width).permute(2, 0, 3, 1, 4)
    return cells.reshape(channels, rows * height, columns * width)[:, :-gap, :-gap]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        elif isinstance(value, (bool, int, float, str)):
            flat[prefix + name] = value
        else:
            flat[prefix + name] = json.dumps(value)
    return flat
