"""Every method on biased digits: accuracy, detection, cost and memory, into one CSV.

    python benchmarks/quality/methods.py                # all; about an hour on two cores
    python benchmarks/quality/methods.py --only EnD     # rows whose name contains a word

methods.yaml names the methods: callbacks with their settings, the paper, and what they need beside
the one run. Quality is the unbiased test accuracy after the last of 4 epochs on the variants bg, fg
and patch at rho .95, three seeds. Every method has the same network (SmallConvNet at half its
width, so that the table can be made again in an hour), learning rate and epochs; nothing is chosen
by it. A method that takes many times as long as the others has fewer seeds. Runs take turns on as
many processes as there are cores, one thread each; finished ones are kept in runs/methods and not
run again.

Cost is measured afterwards with nothing else running: a method and plain training take turns in one
process with one thread, an epoch of half the images each without monitors, and the median ratio of
three turns counts. Memory is what the callbacks hold for 10,000 images: parameters and buffers.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml

from online_debias.data import BiasedDigits, Images
from online_debias.functional.metrics import detection
from online_debias.models import SmallConvNet
from online_debias.runs import results
from online_debias.runs.pipeline import Settings
from online_debias.runtime import seeds
from online_debias.runtime.checkpoint import write_whole
from online_debias.settings.parser import parse
from online_debias.training.settings import TrainingSettings
from online_debias.training.trainer import Trainer

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results/methods.csv"
VARIANTS, RHO, EPOCHS, TURNS, WIDTHS = ("bg", "fg", "patch"), 0.95, 4, 3, (8, 16, 32)


def main() -> None:
    """Run what is missing, measure the cost, write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", help="rows whose name contains one of these words")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/methods"), help="kept results")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    given = parser.parse_args()
    names = [
        name
        for name in methods()
        if not given.only or any(word.lower() in name.lower() for word in given.only)
    ]
    given.runs.mkdir(parents=True, exist_ok=True)
    jobs = [
        (name, variant, seed, given.runs)
        for seed in given.seeds
        for variant in VARIANTS
        for name in names
        if seed < methods()[name].get("seeds", seed + 1)
    ]
    with ProcessPoolExecutor(given.workers) as pool:
        list(pool.map(quality, *zip(*jobs, strict=True)))
    for name in names:
        cost(name, given.runs)
    known = list(methods())
    runs = {key(row): row for row in [*before(), *(json.loads(p.read_text()) for p in made(given))]}
    rows = [row for row in runs.values() if row["method"] in known]
    rows.sort(key=lambda row: (known.index(row["method"]), row["data"], row["seed"]))
    results.write_csv(RESULTS, rows)


def made(given: argparse.Namespace) -> list[Path]:
    """Return the kept results."""
    return sorted(given.runs.glob("*.json"))


def key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what tells runs apart."""
    return row["method"], row["data"], int(row["seed"])


def before() -> list[dict[str, Any]]:
    """Return the rows of the CSV as it is: those that are not made again stay."""
    runs: dict[tuple[Any, ...], dict[str, Any]] = {}
    with RESULTS.open(newline="") as file:
        for line in csv.DictReader(file):
            named = {"method": line["method"], "data": line["data"]}
            named |= {"ratio": float(line["ratio"]), "seed": int(line["seed"])}
            runs.setdefault(key(named), named)[line["metric"]] = float(line["value"])
    return list(runs.values())


def methods() -> dict[str, dict[str, Any]]:
    """Return the rows of methods.yaml by name."""
    found: dict[str, dict[str, Any]] = yaml.safe_load((HERE / "methods.yaml").read_text())
    return found


def quality(name: str, variant: str, seed: int, runs: Path) -> None:
    """Train once and keep the test accuracies."""
    path = runs / f"{_file(name)}-{variant}-{seed}.json"
    if path.is_file():
        return
    torch.set_num_threads(1)
    train, test = _data(variant, seed)
    trainer = _trainer(name, train, seed, EPOCHS)
    trainer.fit()
    trainer.evaluate_on = {"test": test}
    row = {"method": name, "data": variant, "ratio": RHO, "seed": seed}
    row |= trainer.evaluate("test").metrics
    scores = trainer.engine.run.samples.values("conflict", unless="noise")
    assert train.conflicting is not None
    found = detection(scores, train.conflicting)
    row |= {f"detect_{measure}": value for measure, value in found.items()}
    row["oracle"] = float(trainer.engine.oracle)
    write_whole(path, json.dumps(row).encode())
    print(f"{name}, {variant}, seed {seed}: {row['accuracy_unbiased']:.3f}", flush=True)


def cost(name: str, runs: Path) -> None:
    """Measure a method's training time relative to plain training's, and what it holds."""
    path = runs / f"{_file(name)}-cost.json"
    if path.is_file():
        return
    torch.set_num_threads(1)
    whole, _ = _data("bg", 0)
    assert whole.bias is not None
    half = Images(whole.images[::2], whole.targets[::2], whole.bias[::2], whole.classes)

    def seconds(method: str) -> float:
        trainer = _trainer(method, half, 0, 1)
        trainer.fit()
        return trainer.seconds_training

    ratios = []
    for _ in range(TURNS):
        plain = seconds("plain")
        ratios.append(seconds(name) / plain)
    trainer = _trainer(name, whole, 0, 1)
    trainer._step(*next(iter(trainer.loader)))  # detectors make their buffers in the first step
    held = trainer.engine.callbacks
    tensors = [t for c in held for t in (*c.parameters(), *c.buffers())]
    tensors += trainer.engine.run.samples.tensors()
    row = {"method": name, "data": "cost", "ratio": RHO, "seed": 0}
    row["time_ratio"] = statistics.median(ratios)
    row["held_mb"] = sum(t.numel() * t.element_size() for t in tensors) / 2**20
    row["parameters"] = sum(p.numel() for c in held for p in c.parameters())
    write_whole(path, json.dumps(row).encode())
    print(f"{name}: {row['time_ratio']:.2f} times plain training's time", flush=True)


@cache
def _data(variant: Any, seed: int) -> tuple[Images, Images]:
    source = BiasedDigits(variant=variant, rho=RHO, seed=seed)
    return source.train(), source.test()


def _trainer(name: str, images: Images, seed: int, epochs: int) -> Trainer:
    settings = _settings(name)
    torch.manual_seed(seeds.derive(seed, "weights", ""))
    return Trainer(
        SmallConvNet(len(images.classes), WIDTHS),
        images,
        settings.callbacks,
        settings=TrainingSettings(
            taps=settings.taps,
            criterion=settings.criterion,
            epochs=epochs,
            normalize=settings.normalize,
            seed=seed,
            log_every=10**6,
        ),
    )


def _settings(name: str) -> Settings:
    row = methods()[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "method.yaml"
        path.write_text(yaml.safe_dump({"callbacks": [], **row.get("settings", {})}))
        return parse(["--config", str(path)])[0]


def _file(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)


if __name__ == "__main__":
    main()
