"""Which curves stand together in TensorBoard, what needs no bias labels first."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Category -> panel -> patterns, each of which the beginning of a curve's tag must match.
PANELS = {
    "Without bias labels": {
        "evidence of a shortcut": ["shortcut/(evidence|followed|part)$"],
        "estimated conflicting share": ["detect/share_flagged$"],
        "estimated conflicting share by class": ["detect/share_flagged/.*"],
        "training accuracy by pseudo-group": ["train/accuracy_pseudo_.*"],
        "validation accuracy by pseudo-group": ["validation/accuracy_pseudo_.*"],
        "effective sample size of the weights": ["weights/ess$"],
    },
    "With bias labels": {
        "test accuracy": ["eval/accuracy_.*"],
        "detection of conflicting samples": ["detect/(auroc|average_precision)$"],
        "loss weight on conflicting rows": ["weights/share_conflicting$"],
    },
    "Training": {
        "loss": ["train/loss$"],
        "accuracy": ["(train|validation|eval)/accuracy$"],
        "loss terms": ["terms/.*"],
        "milliseconds": ["time/.*"],
    },
}


def layout(tags: Iterable[str]) -> dict[str, dict[str, list[str | list[str]]]]:
    """Return the panels that have curves, as `SummaryWriter.add_custom_scalars` takes them.

    Args:
        tags: of the curves there are.

    Example:
        >>> layout(["train/loss", "augment/share"])
        {'Training': {'loss': ['Multiline', ['train/loss$']]}}
    """
    shown: dict[str, dict[str, list[str | list[str]]]] = {}
    known = list(tags)
    for category, panels in PANELS.items():
        for panel, patterns in panels.items():
            if any(re.match(pattern, tag) for pattern in patterns for tag in known):
                shown.setdefault(category, {})[panel] = ["Multiline", [*patterns]]
    return shown
