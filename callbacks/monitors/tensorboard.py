"""Show a run in TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from torch import Tensor

from online_debias.data.images import Images
from online_debias.engine import Monitor, Run
from online_debias.functional.metrics import Report
from online_debias.memory.recorder import Scalar
from online_debias.runs.shortcut_sentence import sentence
from online_debias.training.image_grid import grid

from .captions import captioned
from .detection import Detection
from .tensorboard_layout import layout

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

MANY = 20  # classes, of which each gets curves and histograms of its own
TOP = 30  # images shown of each kind


class TensorBoard(Monitor):
    """Writes TensorBoard event files: curves, the images that look conflicting, the settings.

    The x-axis is the optimizer step everywhere. Recorded scalars keep their tags; the test split
    is under `eval/`, other splits under their own name. After each epoch, of what the run knows of
    its samples: with images, `detect/top_scored` and `detect/lowest_scored`, with the
    class of each and what the biased view took it for; the share of each class that is flagged as
    bias-conflicting, `detect/share_flagged/<class>`, and a histogram `scores/<class>`; with bias
    annotations, the precision-recall curve `detect/pr`. Of more than 20 classes, the 20 with the
    most images get curves of their own. The verdict is a text, `shortcut`. The final test metrics
    and settings make one entry in the HParams tab, in the run's own folder.

    Args:
        folder: where the event files go.
        detection: the monitor that has the annotations, for the precision-recall curve.
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
        seen = Detection() if detection is None else detection
        self._signal, self._unless = seen.signal, seen.unless
        self._followed = [] if images is None else _largest_classes(images)
        self._final: dict[str, float] = {}
        self._layout = layout([])
        self._tags: set[str] = set()
        self._writer: SummaryWriter | None = None

    def on_fit_start(self, run: Run) -> None:
        """Open an event file; what an interrupted run wrote after its checkpoint is purged."""
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        # The checkpoint's own step stays: its evaluation will not be repeated.
        purge_step = run.step + 1 if run.step else None
        writer = SummaryWriter(str(self.folder), purge_step=purge_step)
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
            self._final = dict(values)
        followed = self._followed or range(MANY)
        for (target, bias), (accuracy, _) in report.groups.items():
            if len(report.groups) <= MANY**2 or (target in followed and bias in followed):
                values[f"{group}/group/{target}_{bias}"] = accuracy
        for tag, value in values.items():
            self._scalar(tag, value, report.step)

    def on_epoch_end(self, run: Run) -> None:
        """Show the scores."""
        if self._writer is None:
            return
        scores = run.samples.values(self._signal, self._unless).cpu()
        seen = (~scores.isnan()).nonzero().flatten()
        if len(seen):
            self._show_scores(self._writer, scores, seen, run)
        self._flush()

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
        if run.shortcut.sought and run.shortcut.figures:
            self._writer.add_text("shortcut", sentence(run.shortcut.figures), run.step)
        if self.settings or self._final:
            from torch.utils.tensorboard.summary import hparams

            # add_hparams would make a second run for it, in a folder named by the time.
            parts = hparams(_flat(self.settings), self._final)
            for part in parts:
                self._writer.file_writer.add_summary(part, run.step)  # type: ignore[attr-defined]
        self._flush()
        self._writer.close()
        self._writer = None

    def _scalar(self, tag: str, value: float, step: int) -> None:
        if self._writer is not None:
            self._tags.add(tag)
            self._writer.add_scalar(tag, value, step)

    def _flush(self) -> None:
        if self._writer is None:
            return
        if self._layout != (now := layout(self._tags)):
            self._layout = now
            self._writer.add_custom_scalars(now)  # the page shows the last one
        self._writer.flush()

    def _show_scores(self, writer: SummaryWriter, scores: Tensor, seen: Tensor, run: Run) -> None:
        step = run.step
        conflicting = None if self.detection is None else self.detection.conflicting
        if conflicting is not None:
            labels = conflicting.cpu()[seen]
            writer.add_pr_curve("detect/pr", labels, scores[seen].clamp(0, 1), step)
        if self.images is None:
            return
        labels = run.samples.values("bias_label", unless="noise").nan_to_num(-1).long().cpu()
        order = seen[scores[seen].argsort(descending=True)]
        for tag, chosen in (("top_scored", order[:TOP]), ("lowest_scored", order.flip(0)[:TOP])):
            writer.add_image(f"detect/{tag}", _picture(self.images, chosen, labels), step)
        targets = self.images.targets.cpu()[seen]
        for label in self._followed:
            name, of_class = self.images.classes[label], scores[seen][targets == label]
            if len(of_class):
                share = float((of_class > 0.5).double().mean())
                self._scalar(f"detect/share_flagged/{name}", share, step)
                writer.add_histogram(f"scores/{name}", of_class.numpy(), step, bins=50)


def _picture(images: Images, chosen: Tensor, labels: Tensor) -> Tensor:
    pixels = images.images[chosen.to(images.images.device)].cpu()
    targets = images.targets.cpu()[chosen].tolist()
    names = dict(enumerate(images.classes))
    captions = [
        (names[target], "" if label in (target, -1) else f"like {names.get(label, label)}")
        for target, label in zip(targets, labels[chosen].tolist(), strict=True)
    ]
    return grid(captioned(pixels, captions), columns=6)


def _largest_classes(images: Images) -> list[int]:
    sizes = torch.bincount(images.targets.cpu(), minlength=len(images.classes))
    return sizes.argsort(descending=True, stable=True)[:MANY].sort().values.tolist()


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
