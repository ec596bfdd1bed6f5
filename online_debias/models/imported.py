"""Any network by import path, with weights from a file and the range of values it expects."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from online_debias.models import weights as files
from online_debias.runtime.torchvision_compat import import_torchvision
from online_debias.taps.defaults import classifier

Normalise = Literal["half", "one", "imagenet"]
Trainable = Literal["all", "head"]

# Mean and standard deviation of pixels in [0, 1], a channel.
_STATISTICS = {
    "half": ((0.5, 0.5, 0.5), (1.0, 1.0, 1.0)),
    "one": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
_COUNTS = ("n_classes", "num_classes", "classes")


class Imported(nn.Module):
    """Any `nn.Module` that maps images to logits, by import path.

    A class or function that takes the number of classes as `n_classes`, `num_classes` or `classes`
    is given it. Of others, the last `Linear` (or 1x1 convolution) is replaced by a new one, unless
    it has that many outputs. The auxiliary classifiers of GoogLeNet and Inception are left out.

    Args:
        n_classes: number of classes.
        path: module and class, function or class method, with dots between them.
        arguments: for it, by name.
        weights: a .safetensors file or one of `torch.save` that holds tensors only: a state dict,
            bare or under "state_dict" or "model". It must fit but for the last layer, which stays
            random where the file's has another number of classes.
        normalise: the range that the network expects: "half" for [-.5, .5], "one" for [-1, 1],
            "imagenet" for ImageNet's mean and standard deviation; None for "imagenet" where weights
            are given, else "half".
        head: module path of the last layer, if it is not the last `Linear` or convolution.
        trainable: "head" trains the last layer only; the rest stays in evaluation mode.

    Raises:
        FileNotFoundError: there is no file of weights.
        ValueError: nothing can be imported from the path, it does not take the arguments or is no
            network, there is no last layer to replace, or the weights do not fit.

    Example:
        >>> made = Imported(10, "online_debias.models.SmallConvNet", {"widths": (4, 4, 4)})
        >>> made(torch.zeros(2, 3, 28, 28)).shape
        torch.Size([2, 10])
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        n_classes: int,
        path: str,
        arguments: dict[str, Any] | None = None,
        weights: str | Path | None = None,
        normalise: Normalise | None = None,
        head: str | None = None,
        trainable: Trainable = "all",
    ) -> None:
        super().__init__()
        normalise = normalise or ("half" if weights is None else "imagenet")
        if normalise not in _STATISTICS:
            raise ValueError(f"normalise is {normalise!r}, expected {' or '.join(_STATISTICS)}.")
        if trainable not in ("all", "head"):
            raise ValueError(f"trainable is {trainable!r}, expected all or head.")
        self.path, self.normalise, self.trainable = path, normalise, trainable
        self.net, counted = _build(n_classes, path, arguments or {})
        left_out = _leave_out_auxiliary(self.net)
        last = _last_layer(self.net, path, head)
        if not counted:
            _give_outputs(self.net, path, last, n_classes)
        if weights is not None:
            files.load(self.net, Path(weights), last, left_out)
        if trainable == "head":
            if last is None:
                raise ValueError(f"{path} has no last layer to train; give its path as head.")
            self.net.requires_grad_(False)
            self.net.get_submodule(last).requires_grad_(True)
        mean, deviation = torch.tensor(_STATISTICS[normalise])[:, :, None, None]
        # Not in the state dict: it belongs to the settings, and old checkpoints lack it.
        self.register_buffer("scale", 1 / deviation, persistent=False)
        self.register_buffer("shift", (0.5 - mean) / deviation, persistent=False)

    def train(self, mode: bool = True) -> Imported:
        """Set the mode; what is not trained keeps its running statistics and drops nothing."""
        super().train(mode)
        if self.trainable == "head":
            self.net.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `[B, C]` of images `[B, 3, H, W]` in [-.5, .5].

        Raises:
            ValueError: the network returns something else than a tensor (or an object with one as
                `logits`, as those of transformers do).
        """
        if self.normalise != "half":
            images = images * self.scale + self.shift
        output = self.net(images)
        logits = getattr(output, "logits", output)
        if not isinstance(logits, Tensor):
            raise ValueError(
                f"{self.path} returned {type(logits).__name__}, expected a tensor of logits; wrap "
                "it in a module that returns them alone."
            )
        return logits


def _build(n_classes: int, path: str, arguments: Mapping[str, Any]) -> tuple[nn.Module, bool]:
    """Return the network, and whether it was given the number of classes."""
    import_torchvision()  # what is imported next may import it
    try:
        make = _at(path)
        parameters = inspect.signature(make).parameters
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ValueError(
            f"model: there is no class or function {path!r} ({error}); give its import path, such "
            "as timm.create_model."
        ) from error
    count = {name: n_classes for name in _COUNTS if name in parameters}
    try:
        net = make(**{**count, **arguments})
    except Exception as error:  # whatever another library raises, the mend is the same
        raise ValueError(
            f"model: {path} does not take the arguments {dict(arguments)} ({error})."
        ) from error
    if not isinstance(net, nn.Module):
        raise ValueError(f"model: {path} makes {type(net).__name__}, expected an nn.Module.")
    return net, bool(count)


def _at(path: str) -> Any:
    """Return what is at an import path; before a module comes what is called like it."""
    place, *names = path.split(".")
    found: Any = importlib.import_module(place)
    for name in names:
        place = f"{place}.{name}"
        if not hasattr(found, name):
            importlib.import_module(place)
        found = getattr(found, name)
    return found


def _leave_out_auxiliary(net: nn.Module) -> tuple[str, ...]:
    """Return the names of the auxiliary classifiers taken out, which make the output a tuple."""
    if getattr(net, "aux_logits", None) is not True:
        return ()
    names = tuple(name for name, _ in net.named_children() if name.lower().startswith("aux"))
    net.aux_logits = False  # type: ignore[assignment]
    for name in names:
        setattr(net, name, None)
    return names


def _last_layer(net: nn.Module, path: str, head: str | None) -> str | None:
    if head is None:
        return classifier(net)
    found = dict(net.named_modules()).get(head)
    if not isinstance(found, nn.Linear | nn.Conv2d):
        kind = "missing" if found is None else f"a {type(found).__name__}"
        raise ValueError(
            f"model: head {head!r} of {path} is {kind}, expected the path of a Linear or a 1x1 "
            f"convolution, such as {classifier(net)!r}."
        )
    return head


def _give_outputs(net: nn.Module, path: str, last: str | None, n_classes: int) -> None:
    if not last:
        raise ValueError(
            f"model: {path} has no Linear and no 1x1 convolution to replace by one of {n_classes} "
            "outputs; wrap it in a module that takes n_classes."
        )
    old = net.get_submodule(last)
    assert isinstance(old, nn.Linear | nn.Conv2d)
    bias = old.bias is not None
    if isinstance(old, nn.Linear) and old.out_features != n_classes:
        net.set_submodule(last, nn.Linear(old.in_features, n_classes, bias))
    elif isinstance(old, nn.Conv2d) and old.out_channels != n_classes:
        net.set_submodule(last, nn.Conv2d(old.in_channels, n_classes, 1, bias=bias))
