"""A sheet of frost, drawn: feathers of ice that grow over a bluish pane."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from online_debias.data.biasing.noise_fields import plasma
from online_debias.runtime.seeds import generator

SIDE = 512  # of the sheet in pixels
FINER = 2  # it is drawn so many times larger, then scaled down: smooth edges
FEATHERS = 900
PANE, ICE = (0.08, 0.16, 0.28), (0.93, 0.97, 1.0)


@functools.cache
def frost_sheet() -> Tensor:
    """The sheet, the same in every run: `[3, 512, 512]` in [0, 1].

    Feathers (a stem with shorter and shorter needles at 60 degrees, as ice crystals have) lie
    over a haze of plasma clouds.

    Example:
        >>> frost_sheet().shape
        torch.Size([3, 512, 512])
    """
    draw = generator("cpu", 0, "frost")
    layer = Image.new("L", (SIDE * FINER, SIDE * FINER))
    pen = ImageDraw.Draw(layer)
    for spot in torch.rand(FEATHERS, 4, generator=draw).tolist():
        _feather(pen, spot)
    needles = torch.from_numpy(np.asarray(layer) / np.float32(255))
    needles = F.avg_pool2d(needles[None, None], FINER)[0, 0]
    haze = plasma(1, SIDE, SIDE, 1.3, draw)[0]
    white = (0.5 * haze + needles * (0.5 + 0.5 * haze)).clamp(0, 1)
    pane, ice = torch.tensor(PANE)[:, None, None], torch.tensor(ICE)[:, None, None]
    return torch.lerp(pane, ice, white)


def _feather(pen: ImageDraw.ImageDraw, spot: list[float]) -> None:
    """Draws one, given where, in which direction and how long, all in [0, 1)."""
    x, y = spot[0] * SIDE * FINER, spot[1] * SIDE * FINER
    angle, length = spot[2] * 2 * math.pi, (10 + 40 * spot[3]) * FINER
    needles = 8
    for i in range(needles):
        left = 1 - i / needles  # of the stem; needles shorten towards its tip
        tip_x = x + math.cos(angle) * length / needles
        tip_y = y + math.sin(angle) * length / needles
        shade = int(120 + 135 * left)
        pen.line([x, y, tip_x, tip_y], fill=shade, width=2 * FINER)
        for side in (-math.pi / 3, math.pi / 3):
            reach = 0.45 * length * left
            end = x + math.cos(angle + side) * reach, y + math.sin(angle + side) * reach
            pen.line([x, y, *end], fill=int(0.8 * shade), width=FINER)
        x, y = tip_x, tip_y
