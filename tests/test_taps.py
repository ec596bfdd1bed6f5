"""Features are read where the taps say, in training steps only."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from online_debias.models import SmallConvNet, Torchvision
from online_debias.taps.taps import Tap, Taps, flatten

torch.set_num_threads(1)
BOTH = ("bottleneck", "shallow")


@pytest.fixture
def model() -> SmallConvNet:
    torch.manual_seed(0)
    return SmallConvNet(5).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def read(taps: Taps, model: Callable[[Tensor], Tensor], images: Tensor) -> dict[str, Tensor]:
    taps.start()
    model(images)
    return taps.finish()


def pooled(feature: Tensor, side: int) -> Tensor:
    """Means over the cells of a grid, cell by cell; the map's sides are multiples of `side`."""
    n, channels, height, width = feature.shape
    flat = torch.empty(n, channels * side * side)
    for row in range(n):
        column = 0
        for channel in range(channels):
            for i in range(side):
                for j in range(side):
                    cell = feature[row, channel].chunk(side, 0)[i].chunk(side, 1)[j]
                    flat[row, column] = cell.sum() / cell.numel()
                    column += 1
    assert height % side == width % side == 0
    return flat


def test_default_taps_of_the_small_net(model: SmallConvNet, images: Tensor) -> None:
    features = read(Taps(model, None, BOTH), model, images)
    stage1 = model.stage1(images)
    torch.testing.assert_close(features["shallow"], pooled(stage1, 2))
    bottleneck = model.stage3(model.stage2(stage1)).flatten(1)
    assert torch.equal(features["bottleneck"], bottleneck)
    assert features["shallow"].shape == (3, 64) and features["bottleneck"].shape == (3, 64)


@pytest.mark.parametrize("wrapped", [False, True])
def test_default_taps_of_resnet18(wrapped: bool) -> None:
    model = Torchvision(5, "resnet18").eval()
    net = model.net
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    features = read(Taps(model if wrapped else net, None, BOTH), net, images)
    layer1 = net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(images)))))
    torch.testing.assert_close(features["shallow"], pooled(layer1, 2))
    last = net.layer4(net.layer3(net.layer2(layer1)))
    torch.testing.assert_close(features["bottleneck"], last.mean((2, 3)))


def test_the_first_pool_is_shallow_where_no_stage_is_named() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AvgPool2d(2), nn.MaxPool2d(2), nn.Flatten())
    images = torch.randn(2, 3, 8, 8)
    features = read(Taps(model, None, ["shallow"]), model, images)
    torch.testing.assert_close(features["shallow"], pooled(model[:2](images), 2))


def test_the_bottleneck_is_the_input_of_the_last_linear() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    vectors = torch.randn(3, 6)
    features = read(Taps(model, None, ["bottleneck"]), model, vectors)
    assert torch.equal(features["bottleneck"], model[:4](vectors))


def test_the_last_map_comes_in_parts(model: SmallConvNet, images: Tensor) -> None:
    features = read(Taps(model, None, ["parts"]), model, F.pad(images, [6, 6, 6, 6]))
    stage2 = model.stage2(model.stage1(F.pad(images, [6, 6, 6, 6])))
    torch.testing.assert_close(features["parts"], pooled(model.stage3[:3](stage2), 6))


def test_only_what_is_wanted_is_read(model: SmallConvNet, images: Tensor) -> None:
    taps = Taps(model, None, BOTH)
    taps.start(["shallow"])
    model(images)
    assert set(taps.finish()) == {"shallow"}
    taps.start([])
    model(images)
    assert taps.finish() == {}


@pytest.mark.parametrize("side", [1, 2, 3])
def test_a_map_is_averaged_over_a_grid(model: SmallConvNet, images: Tensor, side: int) -> None:
    taps = Taps(model, {"stage": Tap("stage1", pool=side)}, ["stage"])
    expected = pooled(model.stage1(images), side)
    torch.testing.assert_close(read(taps, model, images)["stage"], expected)


def test_a_path_alone_is_pooled_to_one_cell_and_to_four_if_shallow(
    model: SmallConvNet, images: Tensor
) -> None:
    taps = Taps(model, {"deep": "stage2", "shallow": "stage2"}, ["deep", "shallow"])
    features = read(taps, model, images[..., :8, :8])
    stage2 = model.stage2(model.stage1(images[..., :8, :8]))
    torch.testing.assert_close(features["deep"], pooled(stage2, 1))
    torch.testing.assert_close(features["shallow"], pooled(stage2, 2))


def test_vectors_are_kept_and_tokens_averaged_where_one_cell_is_asked_for() -> None:
    tokens, vectors = torch.randn(2, 5, 3), torch.randn(2, 3)
    torch.testing.assert_close(flatten(tokens, 1), sum(tokens.unbind(1)) / 5)
    assert torch.equal(flatten(vectors, 2), vectors)


@pytest.mark.parametrize("before", [0, 1, 2, 5])
def test_a_square_of_patch_tokens_is_a_map(before: int) -> None:
    tokens = torch.randn(2, before + 16, 3)
    expected = torch.zeros(2, 3, 2, 2)
    for patch in range(16):
        row, column = patch // 4, patch % 4
        expected[:, :, row // 2, column // 2] += tokens[:, before + patch] / 4
    torch.testing.assert_close(flatten(tokens, 2), expected.flatten(1))


@pytest.mark.parametrize("n_tokens", [1, 3, 15, 22])
def test_tokens_that_are_no_square_of_patches_are_averaged(n_tokens: int) -> None:
    tokens = torch.randn(2, n_tokens, 3)
    torch.testing.assert_close(flatten(tokens, 2), tokens.mean(1))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 6)])
def test_a_map_with_its_channels_last_is_pooled_over_places(height: int, width: int) -> None:
    feature = torch.randn(2, 5, height, width)
    turned = feature.permute(0, 2, 3, 1)
    assert torch.equal(flatten(turned, 2, channels=5), flatten(feature, 2))
    assert torch.equal(flatten(feature, 2, channels=5), flatten(feature, 2))


def test_a_map_whose_layers_tell_its_side_for_its_channels_stays_as_it_is() -> None:
    feature = torch.randn(2, 24, 8, 8)  # as a dense block's: its last convolution gives 8 channels
    torch.testing.assert_close(flatten(feature, 2, channels=8), pooled(feature, 2))


def test_features_stay_on_the_graph(model: SmallConvNet, images: Tensor) -> None:
    features = read(Taps(model, None, BOTH), model, images)
    features["bottleneck"].sum().backward()
    assert all(p.grad is not None for p in model.stage1.parameters())


def test_what_is_tapped_does_not_change_the_logits(model: SmallConvNet, images: Tensor) -> None:
    expected = model(images)
    taps = Taps(model, {"middle": Tap("stage2", pool=3)}, [*BOTH, "middle"])
    taps.start()
    assert torch.equal(model(images), expected)


@pytest.mark.parametrize("reads", ["input", "output"])
def test_a_transform_goes_on_through_the_model(
    model: SmallConvNet, images: Tensor, reads: str
) -> None:
    path = "head" if reads == "input" else "stage3"
    tap = Tap(path, reads=reads, transform=F.normalize)  # type: ignore[arg-type]
    unit = F.normalize(model.stage3(model.stage2(model.stage1(images))).flatten(1))
    expected = model.head(unit)
    taps = Taps(model, {"bottleneck": tap}, [])  # needed or not, the model has it
    torch.testing.assert_close(model(images), expected)
    taps.start()
    torch.testing.assert_close(model(images), expected)
    torch.testing.assert_close(taps.finish()["bottleneck"], unit)
    taps.remove()
    assert not torch.allclose(model(images), expected)


def test_only_taps_that_are_needed_are_read(model: SmallConvNet, images: Tensor) -> None:
    taps = Taps(model, {"first": "stage1", "second": "stage2"}, ["second"])
    assert set(read(taps, model, images)) == {"second"}
    assert not model.stage1._forward_hooks


def test_features_are_read_between_start_and_finish_only(
    model: SmallConvNet, images: Tensor
) -> None:
    taps = Taps(model, None, BOTH)
    first = read(taps, model, images)
    kept = {name: feature.clone() for name, feature in first.items()}
    model(images + 1)  # an evaluation
    assert all(torch.equal(first[name], kept[name]) for name in BOTH)
    with pytest.raises(ValueError, match="did not fire"):
        taps.finish()
    second = read(taps, model, images + 1)
    assert not torch.equal(first["bottleneck"], second["bottleneck"])


def test_a_tap_that_does_not_fire_is_named(images: Tensor) -> None:
    model = SmallConvNet(5)
    model.unused = nn.Linear(2, 2)
    taps = Taps(model, {"idle": "unused", "busy": "stage1"}, ["busy", "idle"])
    taps.start()
    model(images)
    with pytest.raises(ValueError, match="Tap 'idle' did not fire in the forward pass"):
        taps.finish()


def test_a_forward_pass_that_was_broken_off_leaves_no_features(
    model: SmallConvNet, images: Tensor
) -> None:
    taps = Taps(model, None, BOTH)
    taps.start()
    model(images)
    taps.start()
    with pytest.raises(ValueError, match="Tap 'bottleneck' did not fire"):
        taps.finish()


def test_hooks_are_removed(model: SmallConvNet, images: Tensor) -> None:
    taps = Taps(model, None, BOTH)
    hooked = [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert hooked == [model.stage1, model.head]
    taps.remove()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_an_unknown_path_names_the_nearest(model: SmallConvNet) -> None:
    with pytest.raises(ValueError, match="no module 'stge1' to tap; the nearest are .*stage1"):
        Taps(model, {"shallow": "stge1"}, [])


def test_an_unknown_tap_names_those_there_are(model: SmallConvNet) -> None:
    with pytest.raises(
        ValueError, match="no tap called 'deep'.* are bottleneck, local, middle, parts, shal"
    ):
        Taps(model, {"middle": "stage2"}, ["deep"])


@pytest.mark.parametrize("name", BOTH)
def test_a_model_without_a_default_tap_asks_for_it(name: str) -> None:
    with pytest.raises(ValueError, match=f"The model Sequential has no default tap '{name}'"):
        Taps(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), None, [name])


def test_a_convolution_of_single_places_is_a_classifier_where_there_is_no_linear() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1), nn.AvgPool2d(6), nn.Flatten())
    images = torch.randn(2, 3, 8, 8)
    features = read(Taps(model, None, ["bottleneck"]), model, images)
    torch.testing.assert_close(features["bottleneck"], model[0](images).mean((2, 3)))


def test_a_pooling_layer_has_the_channels_of_the_layer_before_it() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Conv2d(4, 8, 1)
    )
    taps = Taps(model, None, ["shallow"])
    assert taps.width("shallow") == 16
    assert read(taps, model, torch.randn(2, 3, 8, 8))["shallow"].shape == (2, 16)


def test_of_a_pooling_layer_that_is_called_twice_the_first_call_is_read(images: Tensor) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.pool = nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)
            self.second, self.head = nn.Conv2d(4, 6, 3), nn.Linear(6, 2)

        def forward(self, images: Tensor) -> Tensor:
            feature = self.pool(self.second(self.pool(self.first(images))))
            logits: Tensor = self.head(feature.mean((2, 3)))
            return logits

    net = Net()
    features = read(Taps(net, None, ["shallow"]), net, images)
    torch.testing.assert_close(features["shallow"], flatten(net.pool(net.first(images)), 2))


def test_a_tap_at_a_module_that_returns_no_tensor_is_named() -> None:
    model = nn.Sequential(nn.LSTM(3, 4, batch_first=True))
    taps = Taps(model, {"all": "0"}, ["all"])
    taps.start()
    with pytest.raises(ValueError, match="Tap 'all' reads a tuple at '0', expected a tensor; "):
        model(torch.zeros(2, 5, 3))


def test_a_block_is_no_block_if_it_holds_the_classifier() -> None:
    head = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    convolutions = [nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)]
    model = nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    with pytest.raises(ValueError, match="has no default tap 'shallow'"):
        Taps(model, None, ["shallow"])


def test_wrappers_are_looked_through(model: SmallConvNet, images: Tensor) -> None:
    wrapped = nn.DataParallel(model)
    features = read(Taps(wrapped, {"middle": "stage2"}, [*BOTH, "middle"]), wrapped, images)
    assert set(features) == {*BOTH, "middle"}


def test_a_part_called_module_is_no_wrapper(images: Tensor) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.head(self.module(images).mean((2, 3)))
            return logits

    net = Net()
    assert read(Taps(net, None, ["bottleneck"]), net, images)["bottleneck"].shape[1] == 4


def test_a_model_compiled_after_its_taps_were_attached_fires_in_every_step(
    model: SmallConvNet, images: Tensor
) -> None:
    plain = SmallConvNet(5).eval()
    plain.load_state_dict(model.state_dict())
    taps, expected = Taps(model, None, BOTH), Taps(plain, None, BOTH)
    compiled = torch.compile(model, backend="eager")
    for step in range(12):  # more steps than the compiler would recompile for
        ours, theirs = (
            read(taps, compiled, images + step),
            read(expected, plain, images + step),
        )
        assert set(ours) == set(theirs)
        for name in BOTH:
            torch.testing.assert_close(ours[name], theirs[name])
        model(images)


@pytest.mark.parametrize(
    ("model", "taps"),
    [
        (SmallConvNet(5), {}),
        (SmallConvNet(5), {"shallow": Tap("stage2", pool=3)}),
        (SmallConvNet(5), {"bottleneck": Tap("head"), "shallow": Tap("stage1", reads="input")}),
        (Torchvision(5, "resnet18"), {}),
        (Torchvision(5, "resnet50"), {"bottleneck": "net.layer3"}),
    ],
)
def test_layers_tell_the_width_of_a_tap(model: nn.Module, taps: dict[str, Tap]) -> None:
    stage1 = taps.get("shallow", Tap("")).reads == "input"
    if stage1:  # an image is no layer: nothing says how many channels it has
        with pytest.raises(ValueError, match="do not tell how many features it has.*width="):
            Taps(model, taps, BOTH).width("shallow")
        taps = {"bottleneck": taps["bottleneck"]}
    found = Taps(model, taps, BOTH)
    widths = {name: found.width(name) for name in BOTH}
    features = read(found, model.eval(), torch.zeros(2, 3, 32, 32))
    assert widths == {name: feature.shape[1] for name, feature in features.items()}


def test_a_given_width_is_taken_and_a_wrong_one_is_mended(
    model: SmallConvNet, images: Tensor
) -> None:
    right = Taps(model, {"shallow": Tap("stage1.3", pool=2, width=64)}, ["shallow"])
    assert right.width("shallow") == 64  # max-pooling has no channels to tell
    read(right, model, images)
    wrong = Taps(model, {"shallow": Tap("stage1.3", pool=2, width=32)}, ["shallow"])
    read(wrong, model, images)  # nobody built on it
    wrong.width("shallow")
    with pytest.raises(ValueError, match="has 64 features, but .* like 32; .*width=64"):
        read(wrong, model, images)
