"""A labelled set of synthetic images in a folder."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from online_debias.data.images import Images
from online_debias.offline.ddb.denoiser import Denoiser
from online_debias.offline.ddb.diffusion import Diffusion
from online_debias.offline.ddb.diffusion_training import fit
from online_debias.offline.ddb.memorisation import memorisation, pairs
from online_debias.offline.ddb.step_bar import StepBar
from online_debias.offline.identity import check_same, fingerprint
from online_debias.runtime import seeds
from online_debias.runtime.checkpoint import write_whole
from online_debias.training.image_grid import grid

FORMAT = 1
LEAST = 10  # training images a class; fewer teach the model nothing but themselves
CHUNK = 200  # images drawn at once


@dataclass(frozen=True)
class Synthetic:
    """Synthetic images, and what they cost.

    Attributes:
        images: as many of each class; nobody knows their bias.
        seconds: of training the diffusion model and drawing the images.
        samples: images the model was trained on, each as often as it was drawn.
        parameters: of the model.
        figures: see `memorisation`.
    """

    images: Images
    seconds: float
    samples: int
    parameters: int
    figures: dict[str, float]


def synthesize(
    diffusion: Diffusion,
    train: Images,
    held_out: Images | None,
    folder: Path,
    device: torch.device | str = "cpu",
    seed: int = 0,
    per_class: int = 1000,
    title: str = "diffusion",
) -> Synthetic:
    """Train a diffusion model and draw images of each class, or load what the folder has of them.

    A folder serves one run after another, and several at once: the first one makes the images, the
    others wait. It has `last.pt` (the model), `synthetic.safetensors` (images and targets),
    `synthetic.json` (data, settings, costs and figures; written last), `samples.png` (a row a
    class), `neighbours.png` (the images nearest to training images, each above the one it is near)
    and TensorBoard's files. A training that was stopped goes on.

    Args:
        diffusion: the model's settings.
        train: what it learns from; bias annotations are not read.
        held_out: images of the same kind, not trained on, to compare distances with.
        folder: made if it is not there.
        device: where to train and draw.
        seed: of everything random.
        per_class: images of each class.
        title: name of the training on the terminal.

    Raises:
        ValueError: `per_class` is below 1, a class has too few images, or the folder is of other
            data or settings, or damaged.
        NonFiniteLossError: the loss became NaN.
        OSError: a file cannot be written.
    """
    import filelock  # comes with torch

    if per_class < 1:
        raise ValueError(f"per_class is {per_class}, expected at least 1 image.")
    counts = torch.bincount(train.targets.cpu()).tolist()
    if min(counts) < LEAST:
        name, count = train.classes[counts.index(min(counts))], min(counts)
        raise ValueError(
            f"class {name!r} has {count} training images, a class with too few images for a "
            f"diffusion model: add some, up to {LEAST} or more, or leave the class out."
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    identity = {
        "data": fingerprint(train),
        "n_classes": len(train.classes),
        "per_class": per_class,
        "seed": seed,
        **diffusion.settings,
    }
    with filelock.FileLock(folder / ".lock"):
        if not (folder / "synthetic.json").exists():
            _make(diffusion, train, held_out, folder, device, identity, title)
        return _load(folder, identity, train.classes)


def _make(
    diffusion: Diffusion,
    train: Images,
    held_out: Images | None,
    folder: Path,
    device: torch.device | str,
    identity: Mapping[str, Any],
    title: str,
) -> None:
    trained = fit(diffusion, train, folder, device, identity["seed"], title)
    start = time.perf_counter()
    n_classes, per_class = len(train.classes), identity["per_class"]
    images = _draw(diffusion, trained.model, identity, f"{title}, sampling")
    seconds = trained.seconds + time.perf_counter() - start
    targets = torch.arange(n_classes).repeat_interleave(per_class)
    known = train.images.to(device)
    new = None if held_out is None else held_out.images.to(device)
    figures, (near, of) = memorisation(images.to(device), known, new)

    columns = min(per_class, 8)
    first = images.view(n_classes, per_class, *images.shape[1:])[:, :columns].flatten(0, 1)
    pictures = {"samples": grid(first, columns), "neighbours": pairs(images, known, near, of)}
    _show(folder, figures, pictures, diffusion.steps)
    tensors = safetensors.torch.save({"images": images, "targets": targets})
    write_whole(folder / "synthetic.safetensors", tensors)
    for name, picture in pictures.items():
        write_whole(folder / f"{name}.png", _png(picture))
    card = {
        "format": FORMAT,
        "made_with": dict(identity),
        "costs": {"seconds": seconds, "samples": trained.samples, "parameters": trained.parameters},
        "figures": figures,
        "sha256": hashlib.sha256(tensors).hexdigest(),
    }
    # Last, because it says that the rest is there.
    write_whole(folder / "synthetic.json", json.dumps(card, indent=2).encode())


def _draw(diffusion: Diffusion, model: Denoiser, identity: Mapping[str, Any], title: str) -> Tensor:
    n_classes, per_class, drawn = identity["n_classes"], identity["per_class"], []
    with StepBar(title, n_classes * per_class, "images") as bar:
        for label in range(n_classes):
            for start in range(0, per_class, CHUNK):
                targets = torch.full((min(CHUNK, per_class - start),), label)
                stream = seeds.generator("cpu", identity["seed"], "synthetic", label, start)
                drawn.append(diffusion.sample(model, targets, stream).cpu())
                bar.to(label * per_class + start + len(targets))
    return torch.cat(drawn)


def _load(folder: Path, identity: dict[str, Any], classes: tuple[str, ...]) -> Synthetic:
    path, mend = folder / "synthetic.json", "choose another folder or delete it."
    try:
        card = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged; {mend}") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise ValueError(f"{path} is not of format {FORMAT}; {mend}")
    check_same(path, card["made_with"], identity)
    path = folder / "synthetic.safetensors"
    if not path.is_file():
        raise ValueError(f"{path} is missing; {mend}")
    tensors = path.read_bytes()
    if hashlib.sha256(tensors).hexdigest() != card["sha256"]:
        raise ValueError(f"{path} is damaged; {mend}")
    found = safetensors.torch.load(tensors)
    images = Images(found["images"], found["targets"], None, classes)
    return Synthetic(images, **card["costs"], figures=card["figures"])


def _show(
    folder: Path, figures: Mapping[str, float], pictures: Mapping[str, Tensor], step: int
) -> None:
    from torch.utils.tensorboard import SummaryWriter  # slow to import

    with SummaryWriter(str(folder)) as writer:
        for name, value in figures.items():
            writer.add_scalar(f"synthetic/{name}", value, step)
        for name, picture in pictures.items():
            writer.add_image(f"synthetic/{name}", picture, step)


def _png(picture: Tensor) -> bytes:
    from PIL import Image  # comes with tensorboard

    buffer = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).squeeze(-1).numpy()).save(buffer, format="png")
    return buffer.getvalue()
