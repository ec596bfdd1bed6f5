"""What is asked before anything is trained or written: do data, network and criterion fit?"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from online_debias.data.images import Images
from online_debias.engine.checks import EXPECTED_OF_CRITERION, check_logits, check_losses
from online_debias.errors import ConfigError, describe_error

_FEW = 2  # rows that are tried


def check_splits(splits: Mapping[str, Images]) -> None:
    """Refuse splits that cannot be trained or measured on.

    Args:
        splits: "train" and others by name.

    Raises:
        ConfigError: one is no `Images`, there is one class only, or splits have unlike classes.
    """
    for name, images in splits.items():
        if not isinstance(images, Images):
            raise ConfigError(
                f"data: the {name} split is {type(images).__name__}, expected Images; return them "
                f"from {name}()."
            )
    classes = splits["train"].classes
    if len(classes) < 2:
        raise ConfigError(
            f"data: training has {len(classes)} class ({', '.join(classes)}), expected at least "
            "two; add images of another class."
        )
    for name, images in splits.items():
        if images.classes != classes:
            raise ConfigError(
                f"data: the {name} split has the classes {_named(images.classes)}, expected those "
                f"of training, {_named(classes)}, in the same order; rename or add what is odd."
            )


def check_model(
    make: Callable[[int], nn.Module],
    criterion: Callable[..., Any],
    splits: Mapping[str, Images],
    device: torch.device | str = "cpu",
) -> None:
    """Refuse a network or a criterion that cannot do with the images, by trying a few of each.

    No random number is drawn from the global stream.

    Args:
        make: makes the network from the number of classes.
        criterion: `(logits, targets) -> losses [B]`.
        splits: "train" and others by name.
        device: where to try.

    Raises:
        ConfigError: the network cannot be made, does not take the images or returns no logits
            `[B, n_classes]`, or the criterion does not give one loss a row.
        ValueError: what the network itself refuses.

    Example:
        >>> images = Images(torch.zeros(2, 3, 4, 4).byte(), torch.tensor([0, 1]), None, ("a", "b"))
        >>> def make(n_classes):
        ...     return nn.Sequential(nn.Flatten(), nn.Linear(48, n_classes))
        >>> check_model(make, nn.CrossEntropyLoss(reduction="none"), {"train": images})
    """
    n_classes = len(splits["train"].classes)
    shapes = {images.images.shape[1:]: name for name, images in reversed(list(splits.items()))}
    with torch.random.fork_rng(devices=()), torch.no_grad():
        model = _made(make, n_classes).to(device).eval()
        for shape, name in shapes.items():
            few = Images.to_float(splits[name].images[:_FEW].to(device))
            try:
                logits = model(few)
            except (RuntimeError, AssertionError, IndexError) as error:
                raise ConfigError(
                    f"The model {type(model).__name__} does not take the {name} images of "
                    f"{'x'.join(map(str, shape))} (channels, height, width): "
                    f"{' '.join(str(error).split())}; choose another --model or size of the images."
                ) from error
            check_logits(logits, len(few), n_classes)
            _try_criterion(criterion, logits, splits[name].targets[:_FEW].to(device))


def _try_criterion(criterion: Callable[..., Any], logits: Tensor, targets: Tensor) -> None:
    try:
        losses = criterion(logits.float(), targets)
    except TypeError as error:
        raise ConfigError(
            f"criterion: it refuses its arguments ({error}), {EXPECTED_OF_CRITERION}."
        ) from error
    check_losses(losses, len(targets))


def _made(make: Callable[[int], nn.Module], n_classes: int) -> nn.Module:
    name = getattr(make, "__qualname__", "it")
    mend = "choose a class or function of n_classes alone, or give its path to --model Imported"
    signature = inspect.signature(make)
    try:
        signature.bind(n_classes)
    except TypeError as error:
        raise ConfigError(f"model: {name} does not take n_classes ({error}); {mend}.") from error
    first = next(iter(signature.parameters.values()))
    if first.annotation in (str, "str"):
        raise ConfigError(
            f"model: {name} takes {first.name!r} first, expected the number of classes; {mend}."
        )
    try:
        return make(n_classes)
    except Exception as error:
        if _is_ours(error):
            raise
        raise ConfigError(
            f"model: it cannot be made for {n_classes} classes, {describe_error(error)}; {mend}."
        ) from error


def _is_ours(error: Exception) -> bool:
    """Whether a network of this library was at work."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][1:]
    names = (str(frame.f_globals.get("__name__")) for frame in frames)
    return any(name.startswith("online_debias.") for name in names)


def _named(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
