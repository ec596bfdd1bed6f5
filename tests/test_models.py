"""The small networks, torchvision's by name, any by import path, and weights from files."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from online_debias.errors import ConfigError
from online_debias.models import Imported, SimpleConvNet, SmallConvNet, Torchvision
from online_debias.runtime.torchvision_compat import import_torchvision
from online_debias.settings import parser
from online_debias.training.settings import TrainingSettings
from online_debias.training.trainer import Trainer
from tests.conftest import make_images

torch.set_num_threads(1)


def n_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("size", [12, 28, 33])
def test_small_net_takes_images_of_any_small_size(size: int) -> None:
    model = SmallConvNet(7)
    images = torch.zeros(2, 3, size, size)
    assert model(images).shape == (2, 7)
    assert model.stage1(images).shape == (2, 16, size // 2, size // 2)


def test_small_net_has_the_parameters_it_says() -> None:
    convolutions = 9 * (3 * 16 + 16 * 32 + 32 * 64)
    norms, head = 2 * (16 + 32 + 64), 64 * 10 + 10
    assert n_parameters(SmallConvNet(10)) == convolutions + norms + head == 24_346


def test_small_net_has_the_widths_it_is_given() -> None:
    model = SmallConvNet(3, widths=(4, 6, 8))
    assert model.stage1(torch.zeros(2, 3, 8, 8)).shape[1] == 4
    assert model.head.in_features == 8


@pytest.mark.parametrize("make", [SmallConvNet, SimpleConvNet])
def test_networks_learn(make: type[SmallConvNet] | type[SimpleConvNet]) -> None:
    torch.manual_seed(0)
    model = make(2)
    targets = torch.arange(16) % 2
    images = torch.randn(16, 3, 12, 12) + targets[:, None, None, None]
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(8):
        loss = nn.functional.cross_entropy(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def test_simple_net_keeps_the_size_of_the_image_and_ends_in_tanh() -> None:
    model = SimpleConvNet(10)
    images = torch.randn(2, 3, 14, 14)
    assert model(images).shape == (2, 10)
    last = model.stages(model.stage1(images))
    assert last.shape == (2, 128, 14, 14)
    assert last.min() < 0 and last.abs().max() <= 1
    sizes = [module.kernel_size for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert sizes == [(7, 7)] * 4


def test_simple_net_starts_from_kaiming_weights() -> None:
    torch.manual_seed(0)
    for convolution in SimpleConvNet(10).modules():
        if isinstance(convolution, nn.Conv2d):
            expected = math.sqrt(2 / (convolution.out_channels * 49))
            assert convolution.weight.std().item() == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize(("kernel_size", "sees_shapes"), [(1, False), (7, True)])
def test_simple_net_of_kernel_size_one_sees_colour_only(
    kernel_size: int, sees_shapes: bool
) -> None:
    model = SimpleConvNet(10, kernel_size).eval()
    images = torch.randn(2, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    shuffled = images.flatten(2)[:, :, torch.randperm(100)].view_as(images)
    assert torch.allclose(model(images), model(shuffled), atol=1e-4) is not sees_shapes


def test_torchvision_networks_come_by_name_with_their_classes() -> None:
    model = Torchvision(5, "resnet18").eval()
    assert type(model.net).__name__ == "ResNet"
    images = torch.randn(2, 3, 32, 32)
    assert model(images).shape == (2, 5)
    assert torch.equal(model(images), model.net(images))


def test_a_name_torchvision_does_not_know_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="no model 'resnet19'; the nearest are .*resnet18"):
        Torchvision(5, "resnet19")
    with pytest.raises(ValueError, match="no model 'zzzzzzzz'; the nearest are "):
        Torchvision(5, "zzzzzzzz")


def test_torchvision_is_usable_without_its_compiled_operators() -> None:
    torchvision = import_torchvision()
    assert import_torchvision() is torchvision
    grey = torchvision.transforms.Grayscale()(torch.ones(3, 4, 4))
    assert grey.shape == (1, 4, 4)
    assert torchvision.datasets.FakeData(size=3)[2][0].size == (224, 224)


@pytest.mark.parametrize(
    "error", [RuntimeError("out of memory"), ImportError("No module named 'torchvision'")]
)
def test_other_errors_of_importing_torchvision_are_not_hidden(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr("online_debias.runtime.torchvision_compat.importlib.import_module", fail)
    with pytest.raises(type(error), match=str(error)):
        import_torchvision()


SMALL = "online_debias.models.SmallConvNet"
WIDTHS = {"widths": (4, 6, 8)}


class Net(nn.Module):
    """Takes no number of classes; with batch norm and dropout, to see what is frozen."""

    def __init__(self, outputs: int = 10, answer: Callable[[Tensor], Any] = lambda x: x) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Dropout())
        self.head, self.answer = nn.Linear(6, outputs, bias=False), answer
        self.unused = nn.Linear(2, 2)

    @classmethod
    def like(cls, outputs: int) -> Net:
        return cls(outputs)

    def forward(self, images: Tensor) -> Any:
        return self.answer(self.head(self.stage1(images).mean((2, 3))))


def counted(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, num_classes), nn.Linear(num_classes, 7))


def no_network() -> str:
    return "no network"


NET = f"{__name__}.Net"


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(0)) - 0.5


def test_the_number_of_classes_goes_where_it_is_asked_for() -> None:
    assert Imported(5, SMALL, WIDTHS).net.head.out_features == 5
    made = Imported(5, f"{__name__}.counted").net
    assert [layer.out_features for layer in made[1:]] == [5, 7]  # then nothing is replaced


def test_a_last_layer_is_replaced_where_nothing_asks_for_the_number_of_classes() -> None:
    made = Imported(3, "torchvision.models.resnet18").net
    assert (made.fc.in_features, made.fc.out_features) == (512, 3)
    made = Imported(3, f"{NET}.like", {"outputs": 9}, head="head").net
    assert made.head.out_features == 3 and made.head.bias is None
    assert made.unused.out_features == 2


def test_a_last_layer_that_fits_is_kept() -> None:
    torch.manual_seed(0)
    expected = Net(3).state_dict()
    torch.manual_seed(0)
    made = Imported(3, NET, {"outputs": 3}, head="head").net.state_dict()
    assert all(torch.equal(made[name], expected[name]) for name in expected)


def test_a_classifying_convolution_is_replaced() -> None:
    made = Imported(3, "torchvision.models.squeezenet1_1")
    assert made(torch.zeros(2, 3, 64, 64)).shape == (2, 3)


def test_timm_networks_come_by_name() -> None:
    made = Imported(3, "timm.create_model", {"model_name": "resnet10t"}).eval()
    assert type(made.net).__module__ == "timm.models.resnet"
    assert made(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
@pytest.mark.filterwarnings("ignore:The default weight initialization:FutureWarning")
def test_auxiliary_classifiers_are_left_out(name: str) -> None:
    made = Torchvision(3, name).train()
    assert made(torch.zeros(2, 3, 80, 80)).shape == (2, 3)
    assert not any("aux" in parameter.lower() for parameter, _ in made.named_parameters())


@pytest.mark.parametrize(
    ("normalise", "mean", "deviation"),
    [
        ("half", [0.5] * 3, [1] * 3),
        ("one", [0.5] * 3, [0.5] * 3),
        ("imagenet", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ],
)
def test_images_get_the_range_a_network_expects(
    normalise: Any, mean: list[float], deviation: list[float]
) -> None:
    made = Imported(3, SMALL, WIDTHS, normalise=normalise).eval()
    pixels = torch.rand(2, 3, 12, 12)
    expected = torch.stack([(pixels[:, i] - mean[i]) / deviation[i] for i in range(3)], 1)
    torch.testing.assert_close(made(pixels - 0.5), made.net(expected))


def test_images_are_normalised_like_imagenet_where_weights_are_given(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(SmallConvNet(3, **WIDTHS).state_dict(), path)
    found = [Imported(3, SMALL, WIDTHS, weights=weights).normalise for weights in (None, path)]
    assert found == ["half", "imagenet"]
    assert Imported(3, SMALL, WIDTHS, path, normalise="half").normalise == "half"


def test_normalisation_is_no_part_of_the_state() -> None:
    plain, scaled = Torchvision(3, "resnet18"), Torchvision(3, "resnet18", normalise="imagenet")
    assert list(plain.state_dict()) == [f"net.{name}" for name in plain.net.state_dict()]
    scaled.load_state_dict(plain.state_dict())


@pytest.mark.parametrize("prefix", ["", "module.", "net.", "module._orig_mod."])
@pytest.mark.parametrize("container", [None, "state_dict", "model"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_are_read_however_they_were_saved(
    tmp_path: Path, suffix: str, container: str | None, prefix: str
) -> None:
    theirs, path = SmallConvNet(3, **WIDTHS), tmp_path / f"weights{suffix}"
    state: dict[str, Any] = {f"{prefix}{k}": v for k, v in theirs.state_dict().items()}
    if suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state if container is None else {container: state, "epoch": 3}, path)
    made = Imported(3, SMALL, WIDTHS, weights=str(path)).net.state_dict()
    assert all(torch.equal(made[name], value) for name, value in theirs.state_dict().items())


def test_a_network_with_a_part_called_net_keeps_its_names(tmp_path: Path) -> None:
    theirs = Torchvision(3, "squeezenet1_1").state_dict()
    torch.save(theirs, tmp_path / "weights.pth")
    path = "online_debias.models.Torchvision"
    made = Imported(3, path, {"name": "squeezenet1_1"}, weights=tmp_path / "weights.pth").net
    assert all(torch.equal(value, theirs[name]) for name, value in made.state_dict().items())


def test_weights_of_a_last_layer_for_other_classes_are_left_out(tmp_path: Path) -> None:
    theirs = SmallConvNet(10, **WIDTHS)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    torch.manual_seed(1)
    fresh = Imported(3, SMALL, WIDTHS).net
    torch.manual_seed(1)
    made = Imported(3, SMALL, WIDTHS, weights=tmp_path / "weights.pth").net
    assert torch.equal(made.stage1[0].weight, theirs.stage1[0].weight)
    assert torch.equal(made.head.weight, fresh.head.weight)
    assert torch.equal(made.head.bias, fresh.head.bias)


def test_weights_of_auxiliary_classifiers_are_left_out(tmp_path: Path) -> None:
    googlenet = import_torchvision().models.googlenet
    theirs = googlenet(num_classes=5, init_weights=False)
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    arguments = {"init_weights": False}
    path = "torchvision.models.googlenet"
    made = Imported(3, path, arguments, weights=tmp_path / "weights.pth").net
    assert torch.equal(made.conv1.conv.weight, theirs.conv1.conv.weight)


def write(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    state = dict(SmallConvNet(3, **WIDTHS).state_dict())
    change(state)
    torch.save(state, path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-300])


BAD_FILES = {
    "missing": (lambda path: None, FileNotFoundError, "There is no file of weights .*weights.pth"),
    "cut short": (
        lambda path: (write(path, lambda state: None), cut(path)),
        ValueError,
        "weights.pth is damaged or no file of weights; get it again",
    ),
    "text": (lambda path: path.write_text("hello"), ValueError, "weights.pth is damaged or"),
    "empty": (lambda path: path.write_bytes(b""), ValueError, "weights.pth is damaged or"),
    "pickle": (
        lambda path: path.write_bytes(pickle.dumps(Path("x"), protocol=2)),
        ValueError,
        "pickled objects, which are not loaded because they can run code; save the weights alone",
    ),
    "whole model": (
        lambda path: torch.save(SmallConvNet(3), path),
        ValueError,
        "pickled objects, which are not loaded because they can run code; save the weights alone",
    ),
    "no tensors": (
        lambda path: torch.save({"epoch": 3}, path),
        ValueError,
        "holds dict with more than tensors in it, expected a state dict",
    ),
    "a list": (lambda path: torch.save([1], path), ValueError, "holds list with more than tensors"),
    "missing key": (
        lambda path: write(path, lambda state: state.pop("stage2.0.weight")),
        ValueError,
        r"SmallConvNet like this one: the file lacks 'stage2.0.weight'; give weights of the same",
    ),
    "unexpected keys": (
        lambda path: write(path, lambda state: state.update(a=torch.ones(1), b=torch.ones(1))),
        ValueError,
        r"the file has the unexpected 'a' \(and 1 more\)",
    ),
    "another network": (
        lambda path: torch.save({"conv": torch.ones(1)}, path),
        ValueError,
        r"lacks 'stage1.0.weight' \(and \d+ more\) and has the unexpected 'conv';",
    ),
    "another shape": (
        lambda path: write(path, lambda state: state.update({"stage1.1.bias": torch.ones(9)})),
        ValueError,
        r"the file has 'stage1.1.bias' of shape \[9\], expected \[4\]",
    ),
    "no weights of the last layer": (
        lambda path: write(path, lambda state: state.pop("head.bias")),
        ValueError,
        "the file lacks 'head.bias'",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_does_not_fit_is_one_sentence(case: str, tmp_path: Path) -> None:
    make, kind, message = BAD_FILES[case]
    path = tmp_path / "weights.pth"
    make(path)
    with pytest.raises(kind, match=message) as caught:
        Imported(3, SMALL, WIDTHS, weights=path)
    assert "\n" not in str(caught.value)


def test_a_damaged_safetensors_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(SmallConvNet(3).state_dict(), path)
    cut(path)
    with pytest.raises(ValueError, match="weights.safetensors is damaged or no file of weights"):
        Imported(3, SMALL, weights=path)


BAD_SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "module": ({"path": "nowhere.Net"}, "no class or function 'nowhere.Net' .*No module named"),
    "name": (
        {"path": "timm.creat_model"},
        "no class or function 'timm.creat_model' .*No module named",
    ),
    "a number": ({"path": "math.pi"}, "there is no class or function 'math.pi'"),
    "no path": ({"path": ""}, "there is no class or function ''"),
    "argument": (
        {"path": SMALL, "arguments": {"depth": 3}},
        "SmallConvNet does not take the arguments {'depth': 3} .*unexpected keyword",
    ),
    "value": (
        {"path": "timm.create_model", "arguments": {"model_name": "resnet81"}},
        r"does not take the arguments .*Unknown model \(resnet81\)",
    ),
    "no network": ({"path": f"{__name__}.no_network"}, "no_network makes str, expected an nn.Mod"),
    "head": ({"path": NET, "head": "fc"}, "head 'fc' of .*Net is missing, .*such as 'unused'"),
    "head kind": ({"path": NET, "head": "stage1"}, "head 'stage1' of .*Net is a Sequential, exp"),
    "headless": (
        {"path": "torch.nn.Flatten"},
        "torch.nn.Flatten has no Linear and no 1x1 convolution to replace",
    ),
    "normalise": ({"path": SMALL, "normalise": "clip"}, "normalise is 'clip', expected half or on"),
    "trainable": ({"path": SMALL, "trainable": "none"}, "trainable is 'none', expected all or he"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_settings_that_do_not_work_are_one_sentence(case: str) -> None:
    settings, message = BAD_SETTINGS[case]
    with pytest.raises(ValueError, match=message) as caught:
        Imported(3, **settings)
    assert "\n" not in str(caught.value)


def test_what_a_network_returns_beside_logits_is_named(images: Tensor) -> None:
    def made(answer: Callable[[Tensor], Any]) -> Imported:
        return Imported(3, NET, {"answer": answer}, head="head")

    assert made(lambda x: SimpleNamespace(logits=x))(images).shape == (4, 3)
    for answer, kind in ((lambda x: (x, x), "tuple"), (lambda x: {"out": x}, "dict")):
        with pytest.raises(ValueError, match=f"Net returned {kind}, expected a tensor of logits"):
            made(answer)(images)


def test_only_the_head_trains_and_the_rest_keeps_its_statistics() -> None:
    made = Imported(3, NET, head="head", trainable="head")
    assert made.train() is made and not made.net.stage1.training
    before = {name: value.clone() for name, value in made.state_dict().items()}
    Trainer(
        made, make_images(), settings=TrainingSettings(epochs=1, batch_size=60, weight_decay=0.1)
    ).fit()
    changed = [n for n, value in made.state_dict().items() if not torch.equal(value, before[n])]
    assert changed == ["net.head.weight"]
    full = Imported(3, NET, head="head").train()
    assert full.net.stage1.training and all(p.requires_grad for p in full.parameters())


def test_networks_come_from_the_command_line(tmp_path: Path) -> None:
    torch.save(Torchvision(10, "resnet18").net.state_dict(), tmp_path / "weights.pth")
    given = ["--model", "resnet18", "--model.weights", str(tmp_path / "weights.pth")]
    settings, configuration = parser.parse(given)
    first = settings.model(3)
    assert isinstance(first, Torchvision) and first.normalise == "imagenet"
    (tmp_path / "settings.yaml").write_text(parser.dump(configuration))
    again = parser.parse(["--config", str(tmp_path / "settings.yaml")])[0].model(3)
    assert torch.equal(first.net.conv1.weight, again.net.conv1.weight)
    given = ["--model", "Imported", "--model.path", "timm.create_model"]
    settings, _ = parser.parse([*given, "--model.arguments", "{model_name: resnet10t}"])
    assert settings.model(3).net.fc.out_features == 3


BAD_LINES = {
    "path": (["Imported"], "model: Imported needs path; give it with --model.path."),
    "option": (
        ["resnet18", "--model.weight", "x"],
        "model: Torchvision has no option 'weight'; the nearest are weights.",
    ),
    "word": (
        ["resnet18", "--model.normalise", "clip"],
        "model.normalise is 'clip', expected 'half' or 'one' or 'imagenet'.",
    ),
    "arguments": (
        ["Imported", "--model.path", "mine.Net", "--model.arguments", "3"],
        "model.arguments is '3', expected dict[str, Any].",
    ),
    "widths": (["SmallConvNet", "--model.widths", "3"], "model.widths is '3', expected tuple."),
    "a number": (
        ["math.pi"],
        "model: 'math.pi' is no class of models; there are SmallConvNet, SimpleConvNet, "
        "Torchvision, Imported.",
    ),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_model_the_command_line_cannot_make_is_one_sentence(case: str) -> None:
    arguments, message = BAD_LINES[case]
    with pytest.raises(ConfigError) as caught:
        parser.parse(["--model", *arguments])
    assert str(caught.value) == message
