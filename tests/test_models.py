"""The small networks, and torchvision's by name."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from online_debias.models import SimpleConvNet, SmallConvNet, Torchvision
from online_debias.torchvision_compat import import_torchvision

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

    monkeypatch.setattr("online_debias.torchvision_compat.importlib.import_module", fail)
    with pytest.raises(type(error), match=str(error)):
        import_torchvision()
