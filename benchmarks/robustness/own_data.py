"""A person's own folder: photographs with a bias that nothing in the package knows of.

    python benchmarks/robustness/own_data.py IMAGES

IMAGES is a folder of photographs with a folder for each class (the first ten of at least 600
images are taken). Sets are made of them, each with a bias of its own in 95 % of the training
images: a *tint*, strong or faint, a *texture* (a grating of the class's direction) or a *mark* (a
sticker, bottom right, with a pattern or of a colour). Each is trained on as a class folder and as
a CSV file, without bias labels, by the commands that a person would use; what was really done to
each image is kept apart and compared with scores.csv. Writes benchmarks/results/own_data.csv.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from online_debias.cli.main import main as online_debias
from online_debias.functional.metrics import detection

RESULTS = Path(__file__).resolve().parents[1] / "results/own_data.csv"
SIDE, RHO, CLASSES = 32, 0.95, 10
TRAIN, TEST = 500, 100  # images a class
Bias = Callable[[Tensor, int], Tensor]  # image [3, H, W] in [0, 1], bias value


def tint(image: Tensor, value: int, strength: float = 0.5) -> Tensor:
    """Blend it with one of ten hues, as a coloured filter would."""
    return image.lerp(_hue(value).expand_as(image), strength)


def faint_tint(image: Tensor, value: int) -> Tensor:
    """The same, less than what photographs differ by in their mean colour."""
    return tint(image, value, strength=0.25)


def texture(image: Tensor, value: int) -> Tensor:
    """Lay a grating over it, of one of five directions and two widths."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    angle, width = math.pi * (value % 5) / 5, (3.2, 6.4)[value // 5]
    wave = (2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / width).sin()
    return image + 0.3 * wave


def pattern(image: Tensor, value: int) -> Tensor:
    """Stick a label of 8x8 pixels with one of ten black and white patterns on it, bottom right."""
    cells = torch.tensor([(37 * (value + 1) >> bit) & 1 for bit in range(9)]).view(3, 3)
    marked = image.clone()
    marked[:, -9:-1, -9:-1] = 0.95
    marked[:, -8:-2, -8:-2] = torch.where(cells > 0, 0.05, 0.95).kron(torch.ones(2, 2))
    return marked


def sticker(image: Tensor, value: int) -> Tensor:
    """Stick a label of 5x5 pixels in one of ten colours on it, bottom right."""
    marked = image.clone()
    marked[:, -6:-1, -6:-1] = _hue(value)
    return marked


def _hue(value: int) -> Tensor:
    angle = 2 * math.pi * value / CLASSES + torch.arange(3) * 2 * math.pi / 3
    return (0.5 + 0.5 * angle.cos())[:, None, None]


KINDS: dict[str, Bias] = {
    "tint": tint,
    "faint tint": faint_tint,
    "texture": texture,
    "coloured sticker": sticker,
    "patterned sticker": pattern,
}


def make(images: Path, folder: Path, kind: str) -> dict[str, bool]:
    """Write the set as a class folder and a CSV; return whether each training image conflicts."""
    shutil.rmtree(folder, ignore_errors=True)
    classes = sorted(
        place for place in images.iterdir() if len(list(place.glob("*"))) >= TRAIN + TEST
    )[:CLASSES]
    stream, truth, lines = torch.Generator().manual_seed(0), {}, ["path,target,split"]
    for label, place in enumerate(classes):
        for number, file in enumerate(sorted(place.glob("*"))[: TRAIN + TEST]):
            split, rho = ("train", RHO) if number < TRAIN else ("test", 1 / CLASSES)
            other = (label + 1 + int(torch.randint(CLASSES - 1, (), generator=stream))) % CLASSES
            value = label if float(torch.rand((), generator=stream)) < rho else other
            path = f"{split}/{place.name}/{number:04d}.png"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            pixels = KINDS[kind](_read(file), value).clamp(0, 1).mul(255).round().byte()
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / path)
            lines.append(f"{path},{place.name},{split}")
            truth[path] = value != label
    (folder / "images.csv").write_text("\n".join(lines) + "\n")
    return truth


def _read(file: Path) -> Tensor:
    with Image.open(file) as image:
        pixels = np.array(image.convert("RGB").resize((SIDE, SIDE)))
    return torch.from_numpy(pixels).permute(2, 0, 1) / 255


def trained(data: list[str], run: Path, method: str) -> dict[str, Any]:
    """Train as a person would, and return what results.json says."""
    shutil.rmtree(run, ignore_errors=True)
    _do(["train", *data, "--method", method, "--epochs", "8", "--run", str(run)])
    found: dict[str, Any] = json.loads((run / "results.json").read_text())
    return found


def measured(
    kind: str, layout: str, data: list[str], truth: dict[str, bool], run: Path
) -> dict[str, object]:
    """Train, score and report as a person would, and compare with what was done."""
    results = trained(data, run, "online")
    for command in ("score", "report"):
        _do([command, str(run)])
    with (run / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    score = torch.tensor([float(row["score"] or "nan") for row in rows])
    conflicting = torch.tensor([truth[row["path"]] for row in rows])
    found = detection(score, conflicting)
    return {
        "bias": kind,
        "layout": layout,
        "images": len(rows),
        "conflicting": int(conflicting.sum()),
        "AUROC": round(found["auroc"], 4),
        "AP": round(found["average_precision"], 4),
        "shortcut": "yes" if results["shortcut"] else "no",
        "evidence": results["shortcut_evidence"],
        "estimated_share": results["conflicting_share"],
        "test_accuracy": round(results["accuracy"], 4),
    }


def _do(command: list[str]) -> None:
    if online_debias(command):
        raise SystemExit(f"{command[0]} failed")


def main() -> None:
    """Make the sets, run, and write the file."""
    torch.set_num_threads(1)
    images, rows = Path(sys.argv[1]), []
    for kind in KINDS:
        folder, run = Path("runs/own_data") / kind, Path("runs/own_data") / f"{kind}-run"
        truth = make(images, folder, kind)
        size = ["--data.size", str(SIDE), "--data.root", str(folder)]
        rows.append(measured(kind, "class folder", ["--data", "ClassFolder", *size], truth, run))
        rows.append(measured(kind, "CSV", ["--data", "CSVData", *size], truth, run))
        plain = trained(["--data", "CSVData", *size], folder.with_name(f"{kind}-plain"), "plain")
        for row in rows[-2:]:
            row["plain_accuracy"] = round(plain["accuracy"], 4)
        print(rows[-2:])
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
