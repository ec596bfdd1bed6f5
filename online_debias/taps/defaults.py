"""Where a network has its classifier and its first stage, told by its structure alone."""

from __future__ import annotations

from typing import Literal

from torch import nn

_POOLING = (nn.MaxPool2d, nn.AvgPool2d)
_POOLING_LAST = (*_POOLING, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_WEIGHTED = (nn.Conv2d, nn.Linear)


def classifier(model: nn.Module) -> str | None:
    """Return the path of the layer that makes the logits, None if it cannot be told.

    It is the last `Linear`, or, in a network without any, the last convolution if it is 1x1. Its
    input is the bottleneck.

    Example:
        >>> classifier(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 2)))
        '2'
    """
    layers = {path: layer for path, layer in model.named_modules() if isinstance(layer, _WEIGHTED)}
    linear = [path for path, layer in layers.items() if isinstance(layer, nn.Linear)]
    if linear or not layers:
        return linear[-1] if linear else None
    path, last = layers.popitem()
    return path if last.kernel_size == (1, 1) else None


def first_stage(model: nn.Module) -> str | None:
    """Return the path of the module that ends the first stage, None if it cannot be told.

    It is the first of

    1. a module called `stage1` or `layer1` (ResNet),
    2. the first pooling layer (VGG, DenseNet, Inception),
    3. the first block: the first module, from the outside in, that has at least two of the
       network's convolutions and Linears and at most half of them, and not the classifier
       (EfficientNet, MobileNet, ConvNeXt, RegNet, Swin, ViT).

    Example:
        >>> def block() -> nn.Module:
        ...     return nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1))
        >>> first_stage(nn.Sequential(nn.Conv2d(3, 8, 3), block(), block(), nn.Linear(8, 2)))
        '1'
    """
    modules = dict(model.named_modules())
    named = [path for path in modules if path.rpartition(".")[2] in ("stage1", "layer1")]
    pools = [path for path, module in modules.items() if isinstance(module, _POOLING)]
    return next(iter([*named, *pools]), None) or _first_block(modules, classifier(model))


def last_map(model: nn.Module) -> tuple[str, Literal["input", "output"]] | None:
    """Return where the last feature map is read, None if it cannot be told.

    It is the input of the last pooling layer, unless convolutions come after that; else the output
    of the last layer with weights, normalisation included, before the classifier (DenseNet, ViT).

    Example:
        >>> last_map(nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Linear(8, 2)))
        ('1', 'input')
        >>> last_map(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 2)))
        ('1', 'output')
    """
    last = classifier(model)
    found: tuple[str, Literal["input", "output"]] | None = None
    for path, module in model.named_modules():
        if path == last:
            break
        if isinstance(module, _POOLING_LAST):
            found = path, "input"
        elif any(True for _ in module.parameters(recurse=False)) and (
            isinstance(module, nn.Conv2d) or found is None or found[1] == "output"
        ):
            found = path, "output"
    return found


def channels_before(model: nn.Module, path: str) -> int | None:
    """Return the channels of the last layer registered before `path`, None if there is none.

    Example:
        >>> channels_before(nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2)), "1")
        8
    """
    found = None
    for name, layer in model.named_modules():
        if name == path:
            break
        found = getattr(layer, "out_channels", getattr(layer, "num_features", found))
    return found if isinstance(found, int) else None


def _first_block(modules: dict[str, nn.Module], last: str | None) -> str | None:
    total = _n_layers(modules[""])
    for path, module in modules.items():
        holds_last = last is not None and f"{last}.".startswith(f"{path}.")
        if 2 <= _n_layers(module) <= total / 2 and not holds_last:
            return path
    return None


def _n_layers(module: nn.Module) -> int:
    return sum(isinstance(layer, _WEIGHTED) for layer in module.modules())
