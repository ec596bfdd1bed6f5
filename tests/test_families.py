"""Networks of each family find their taps, train with callbacks at them, and keep local marks."""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from online_debias import Engine
from online_debias.callbacks import BiasProbe, ConflictScore, EnD
from online_debias.runtime.torchvision_compat import import_torchvision
from online_debias.taps.defaults import classifier, first_stage, last_map
from online_debias.taps.taps import Taps

torch.set_num_threads(1)
zoo = import_torchvision().models
timm = importlib.import_module("timm")  # after torchvision, which it imports
make = partial(timm.create_model, num_classes=3)

DOCS = Path(__file__).parent.parent / "docs" / "models.md"
ROW = re.compile(
    r"^\| [^|]+ \| (torchvision|timm) \| `(\w+)` \| `([\w.]+)` \| (\w+) of `([\w.]+)` "
    r"\| `([\w.]+)` \|$",
    re.M,
)
ROWS = ROW.findall(DOCS.read_text())


def vgg() -> nn.Module:
    with torch.device("meta"):  # 119 million weights, which are replaced
        net: nn.Module = zoo.vgg11()
    net.features = zoo.vgg.make_layers([8, "M", 16, "M", 16, "M", 512, "M"])
    net.classifier = nn.Sequential(nn.Linear(512 * 49, 32), nn.ReLU(), nn.Linear(32, 3))
    return net


def efficientnet() -> nn.Module:
    stage = partial(zoo.efficientnet.MBConvConfig, 4, 3, width_mult=1, depth_mult=1)
    blocks = [stage(1, 8, 8, 1), stage(2, 8, 16, 2)]
    net: nn.Module = zoo.EfficientNet(blocks, 0.2, num_classes=3, last_channel=64)
    return net


def convnext() -> nn.Module:
    stage = zoo.convnext.CNBlockConfig
    net: nn.Module = zoo.ConvNeXt([stage(8, 16, 1), stage(16, None, 3)], num_classes=3)
    return net


def regnet() -> nn.Module:
    blocks = zoo.regnet.BlockParams.from_init_params(4, 8, 8, 2, group_width=8)
    net: nn.Module = zoo.RegNet(blocks, num_classes=3)
    return net


# Family: network, side of its images, widths of the shallow tap and of the bottleneck.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, int, int]] = {
    "ResNet": (partial(zoo.ResNet, zoo.resnet.BasicBlock, [1] * 4, 3), 32, 4 * 64, 512),
    "VGG": (vgg, 64, 4 * 8, 32),
    "DenseNet": (partial(zoo.DenseNet, 8, (2, 2), 16, num_classes=3), 64, 4 * 16, 32),
    "EfficientNet": (efficientnet, 64, 4 * 8, 64),
    "ConvNeXt": (convnext, 64, 4 * 8, 16),
    "ViT": (partial(zoo.VisionTransformer, 64, 16, 3, 2, 24, 48, num_classes=3), 64, 4 * 24, 24),
    "MobileNetV2": (partial(zoo.MobileNetV2, 3, 0.25), 64, 4 * 8, 1280),
    "MobileNetV3": (partial(zoo.mobilenet_v3_small, num_classes=3, width_mult=0.25), 64, 32, 256),
    "Swin": (
        partial(zoo.SwinTransformer, [4, 4], 12, [2, 2], [2, 2], [4, 4], num_classes=3),
        64,
        4 * 12,
        24,
    ),
    "RegNet": (regnet, 64, 4 * 8, 32),
    "SqueezeNet": (partial(zoo.squeezenet1_1, num_classes=3), 64, 4 * 64, 512),
    "timm ResNet": (partial(make, "resnet10t"), 32, 4 * 64, 512),
    "timm VGG": (
        partial(timm.models.VGG, [8, "M", 16, "M"], num_classes=3, mlp_ratio=0.01),
        32,
        4 * 8,
        4096,
    ),
    "timm DenseNet": (
        partial(make, "densenet121", growth_rate=8, block_config=(2, 2)),
        64,
        4 * 16,
        32,
    ),
    "timm EfficientNet": (partial(make, "efficientnet_lite0"), 64, 4 * 16, 1280),
    "timm ConvNeXt": (
        partial(make, "convnext_atto", depths=(1, 1, 3, 1), dims=(8, 16, 24, 32)),
        64,
        4 * 8,
        32,
    ),
    "timm ViT": (
        partial(make, "vit_tiny_patch16_224", img_size=64, depth=2, embed_dim=24),
        64,
        4 * 24,
        24,
    ),
    "timm MobileNetV2": (partial(make, "mobilenetv2_050"), 64, 4 * 8, 1280),
    "timm MobileNetV3": (partial(make, "mobilenetv3_small_050"), 64, 4 * 8, 1024),
    "timm Swin": (
        partial(
            make,
            "swin_tiny_patch4_window7_224",
            img_size=64,
            window_size=4,
            depths=(1, 1, 1),
            embed_dim=12,
            num_heads=(2, 2, 2),
        ),
        64,
        4 * 12,
        48,
    ),
    "timm RegNet": (partial(make, "regnetx_002"), 64, 4 * 24, 368),
}


@pytest.fixture
def net(family: str) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[family][0]()


@pytest.mark.parametrize("family", NETWORKS)
def test_a_family_trains_with_callbacks_at_its_taps(family: str, net: nn.Module) -> None:
    _, side, *widths = NETWORKS[family]
    probe = BiasProbe(label_signal=None, signal=None)  # asks how wide the shallow tap is
    callbacks = [ConflictScore(), probe, EnD(alpha=0.1, beta=1.0)]
    engine = Engine(net, callbacks, n_samples=8, n_classes=3)
    images, targets = torch.rand(8, 3, side, side) - 0.5, torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    batch = engine.start_step(torch.arange(8), images, targets)
    loss = engine.loss(batch, net(batch.inputs))
    assert [batch.features[name].shape[1] for name in ("shallow", "bottleneck")] == widths
    assert [engine.run.width(name) for name in ("shallow", "bottleneck")] == widths
    loss.backward()
    engine.end_step(batch)
    first = next(layer for layer in net.modules() if isinstance(layer, nn.Conv2d))
    assert first.weight.grad is not None and bool(first.weight.grad.isfinite().all())


def changes(net: nn.Module, tap: str, side: int, before: Tensor, after: Tensor) -> Tensor:
    """How much the map at a tap differs between two batches, `[B, C, side, side]`."""
    taps, maps = Taps(net.eval(), None, [tap]), []
    for shown in (before, after):
        taps.start()
        with torch.no_grad():
            net(shown)
        maps.append(taps.finish()[tap].view(len(shown), -1, side, side))
    return (maps[1] - maps[0]).abs()


@pytest.mark.parametrize("family", NETWORKS)
def test_a_mark_in_a_corner_is_seen_in_its_cell(family: str, net: nn.Module) -> None:
    side = NETWORKS[family][1]
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) - 0.5
    marked = images.clone()
    marked[..., : side // 4, side - side // 4 :] = 0.5
    change = changes(net, "shallow", 2, images, marked).mean((0, 1)).flatten()
    others = change[[0, 2, 3]]
    assert change[1] > 2 * others.max(), change


@pytest.mark.parametrize("row", ROWS, ids=[f"{library} {name}" for library, name, *_ in ROWS])
def test_taps_are_where_the_documentation_says(row: tuple[str, ...]) -> None:
    library, name, shallow, reads, parts, bottleneck = row
    meta = torch.device("meta")  # no weights are needed
    # torchvision's RegNet computes its widths with tensors.
    with contextlib.nullcontext() if name.startswith("regnet_") else meta:
        net = (zoo.get_model if library == "torchvision" else timm.create_model)(name)
    assert (first_stage(net), classifier(net)) == (shallow, bottleneck)
    assert last_map(net) == (parts, reads)


# The ViTs here have fewer patches than the grid has places, timm's MobileNetV3 pools too early.
@pytest.mark.parametrize(
    "family", sorted(NETWORKS.keys() - {"ViT", "timm ViT", "timm MobileNetV3"})
)
def test_the_last_map_keeps_places_apart(family: str, net: nn.Module) -> None:
    """Where the upper half of the images alone is changed, that half of the map changes more."""
    side = NETWORKS[family][1] * (1 if "Swin" in family else 4)
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) - 0.5
    changed = images.clone()
    changed[..., : side // 2, :] = 0.5 - changed[..., : side // 2, :]
    change = changes(net, "parts", 6, images, changed).mean((0, 1, 3))
    assert change[:2].sum() > 1.05 * change[4:].sum(), change


def test_the_documentation_lists_each_family_of_both_libraries() -> None:
    text = DOCS.read_text()
    for family in NETWORKS:
        library = "timm" if "timm" in family else "torchvision"
        assert f"| {family.removeprefix('timm ')} | {library} |" in text
    assert len(ROWS) == text.count("| torchvision |") + text.count("| timm |")
