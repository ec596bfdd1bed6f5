"""Small networks for small images."""

from __future__ import annotations

from torch import Tensor, nn


class SmallConvNet(nn.Module):
    """Three 3x3 convolutions for images of about 28 pixels; 24 thousand parameters.

    `stage1` (after its pooling) is the default shallow tap, the input of `head` the bottleneck.

    Args:
        n_classes: number of classes.
        widths: channels of the three stages.

    Example:
        >>> import torch
        >>> SmallConvNet(10)(torch.zeros(2, 3, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(self, n_classes: int, widths: tuple[int, int, int] = (16, 32, 64)) -> None:
        super().__init__()
        self.stage1 = _stage(3, widths[0], nn.MaxPool2d(2))
        self.stage2 = _stage(widths[0], widths[1], nn.MaxPool2d(2))
        self.stage3 = _stage(widths[1], widths[2], nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(widths[2], n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `[B, C]` of images `[B, 3, H, W]`."""
        features: Tensor = self.stage3(self.stage2(self.stage1(images)))
        logits: Tensor = self.head(features.flatten(1))
        return logits


def _stage(inputs: int, outputs: int, pool: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        pool,
    )


class SimpleConvNet(nn.Module):
    """The 7x7 network of ReBias and EnD on Biased MNIST (Bahng et al., ICML 2020).

    Four convolutions without pooling or stride; the last activation is a tanh.

    Args:
        n_classes: number of classes.
        kernel_size: 7 for the target network, 1 for one that sees colour only.
    """

    def __init__(self, n_classes: int, kernel_size: int = 7) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, 16), (16, 32), (32, 64), (64, 128)):
            layers += [
                nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True) if outputs < 128 else nn.Tanh(),
            ]
            nn.init.kaiming_normal_(layers[-3].weight, mode="fan_out", nonlinearity="relu")  # type: ignore[arg-type]
        self.stage1 = nn.Sequential(*layers[:3])
        self.stages = nn.Sequential(*layers[3:])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(128, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `[B, C]` of images `[B, 3, H, W]`."""
        logits: Tensor = self.head(self.pool(self.stages(self.stage1(images))).flatten(1))
        return logits
