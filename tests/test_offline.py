"""Four offline baselines: what they find, what they train with, and that they can be resumed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from online_debias.callbacks import EnD, Information
from online_debias.cli.train import train
from online_debias.data import Images, Source
from online_debias.engine import Batch, Callback, RoundSampler, Run
from online_debias.errors import ConfigError
from online_debias.functional.scores.voronoi_mining import alignment_weights
from online_debias.functional.weights.k_means import k_means
from online_debias.models import SmallConvNet
from online_debias.offline.dfr import DFR, balanced, groups, halves, last_linear, sparse_regression
from online_debias.offline.jtt import JTT
from online_debias.offline.two_step import bottleneck
from online_debias.offline.u_end import UEnD, composition_score
from online_debias.offline.voronoi import ConflictingInformation, Voronoi
from online_debias.runs.pipeline import Pipeline, PipelineResult, Settings, TrainingJob
from online_debias.runtime import scores_csv
from online_debias.training.evaluation import predict
from online_debias.training.trainer import Trainer
from tests.conftest import CLASSES, COLOURS, make_images

CONTRAST = 0.35  # of the shapes, so that the colours are learned first


class Shapes(Source):
    """Faint shapes, conflicting ones in every class; `shuffle` spoils the annotations."""

    classes = CLASSES

    def __init__(self, shuffle: bool = False, bias: bool = True) -> None:
        self.shuffle, self.bias = shuffle, bias

    def _images(self, n: int, rho: float, seed: int) -> Images:
        data = make_images(n, rho, seed)
        assert data.bias is not None
        background = COLOURS[data.bias][:, :, None, None].float()
        faint = background + CONTRAST * (data.images - background)
        noise = 25 * torch.randn(faint.shape, generator=torch.Generator().manual_seed(seed))
        images = (faint + noise).clamp(0, 255).to(torch.uint8)
        bias: Tensor | None = data.bias.roll(1) if self.shuffle else data.bias
        return Images(images, data.targets, bias if self.bias else None, CLASSES)

    def train(self) -> Images:
        return self._images(240, 0.85, 0)

    def validation(self) -> Images:
        return self._images(60, 0.6, 1)

    def test(self) -> Images:
        return self._images(90, 1 / 3, 2)


def small(n_classes: int) -> nn.Module:
    return SmallConvNet(n_classes, widths=(8, 8, 8))


def make_job(
    folder: Path,
    pipeline: Pipeline,
    source: Source | None = None,
    resume: bool = False,
    **more: Any,
) -> TrainingJob:
    chosen: dict[str, Any] = {"epochs": 3, "batch_size": 20, "device": "cpu", "model": small}
    settings = Settings(source or Shapes(), pipeline=pipeline, **{**chosen, **more})
    return TrainingJob(settings, folder, "", resume)


PIPELINES: dict[str, tuple[Callable[[], Pipeline], Callable[[], list[Callback]]]] = {
    "jtt": (lambda: JTT(first_epochs=2, upweight=10), list),
    "voronoi": (Voronoi, lambda: [ConflictingInformation()]),
    "u_end": (UEnD, lambda: [EnD(alpha=0.1, beta=1.0)]),
    "dfr": (lambda: DFR(runs=3, strengths=(1.0, 0.1)), list),
}
every = pytest.mark.parametrize("name", PIPELINES)
unsupervised = pytest.mark.parametrize("name", [name for name in PIPELINES if name != "dfr"])


def fit(
    name: str, folder: Path, source: Source | None = None, resume: bool = False
) -> PipelineResult:
    pipeline, callbacks = PIPELINES[name]
    job = make_job(folder, pipeline(), source, resume, callbacks=callbacks())
    return job.settings.pipeline.fit(job)


def weights(fitted: PipelineResult) -> dict[str, Tensor]:
    return fitted.trainers[-1].model.state_dict()


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


# All of them.


@unsupervised
def test_conflicting_samples_are_found_without_bias_labels(name: str, tmp_path: Path) -> None:
    told = fit(name, tmp_path / "told")
    assert told.detection["auroc"] > 0.85
    assert not told.oracle and not any(t.engine.oracle for t in told.trainers)
    spoilt = fit(name, tmp_path / "spoilt", Shapes(shuffle=True))
    none = fit(name, tmp_path / "none", Shapes(bias=False))
    assert none.detection == {} and spoilt.detection != told.detection
    assert same(weights(told), weights(spoilt)) and same(weights(told), weights(none))
    found = scores_csv.read(tmp_path / "told" / "scores.csv")
    assert torch.equal(found.targets, Shapes().train().targets)


@every
def test_a_run_stopped_between_its_stages_resumes_to_the_same_weights(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(name, tmp_path / "whole")
    fits, original = 0, Trainer.fit

    def stopping(trainer: Trainer) -> None:
        nonlocal fits
        if fits == len(whole.trainers) - 1 and name != "dfr":
            raise KeyboardInterrupt
        fits += 1
        original(trainer)
        if name == "dfr":
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "fit", stopping)
    with pytest.raises(KeyboardInterrupt):
        fit(name, tmp_path / "parts")
    monkeypatch.undo()
    resumed = fit(name, tmp_path / "parts", resume=True)
    assert same(weights(whole), weights(resumed)) and resumed.detection == whole.detection
    again = fit(name, tmp_path / "parts", resume=True)
    assert same(weights(whole), weights(again))
    assert [t.samples_seen for t in again.trainers] == [t.samples_seen for t in whole.trainers]


@every
def test_the_recipe_runs_from_the_command_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    method = name.replace("_", "-")
    source = "tests.test_offline.Shapes"
    found = train(
        ["--method", method, "--data", source, "--batch_size", "40", "--epochs", "2", "--run", "a"]
    )
    results = json.loads(Path("a/results.json").read_text())
    assert results["method"] == method and results["oracle"] is (name == "dfr")
    assert results["training_passes"] == (1 if name == "dfr" else 2)
    assert 0 <= found["accuracy_unbiased"] <= 1
    assert ("detect_auroc" in results) is (name != "dfr")
    assert train(["--resume", "a"])["accuracy_unbiased"] == found["accuracy_unbiased"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: JTT(first_epochs=0), "JTT: first_epochs is 0, expected at least 1"),
        (lambda: JTT(upweight=0.5), "JTT: upweight is 0.5, expected a finite number"),
        (lambda: JTT(upweight=math.inf), "JTT: upweight is inf, expected a finite number"),
        (lambda: UEnD(n_clusters=1), "UEnD: n_clusters is 1, expected at least 2"),
        (lambda: UEnD(first_epochs=0), "UEnD: first_epochs is 0, expected at least 1"),
        (lambda: Voronoi(by="class"), "Voronoi: by is 'class', expected 'target' or 'bias'"),  # type: ignore[arg-type]
        (lambda: ConflictingInformation(0.0), "ConflictingInformation: weight is 0.0, expected"),
        (lambda: DFR(split="test"), "DFR: split is 'test', expected 'train' or"),  # type: ignore[arg-type]
        (lambda: DFR(runs=0), "DFR: runs is 0, expected at least 1"),
        (lambda: DFR(strengths=()), r"DFR: strengths is \(\), expected numbers above 0"),
        (lambda: DFR(strengths=(1.0, -1.0)), "DFR: strengths is .*, expected numbers above 0"),
    ],
)
def test_arguments_out_of_range_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# JTT.


def test_jtt_draws_the_errors_of_the_first_model_as_often_as_it_says(tmp_path: Path) -> None:
    fitted = fit("jtt", tmp_path)
    first, last = fitted.trainers
    data = Shapes().train()
    assert (first.epochs, last.epochs) == (2, 3)
    predictions = predict(first.model, data, first.format).argmax(1)
    wrong = predictions != data.targets
    assert 5 < int(wrong.sum()) < 200
    rate = last.engine.sampling.rate_of(torch.arange(240))
    assert torch.allclose(rate[wrong] / rate[~wrong].mean(), torch.tensor(10.0))
    assert last.samples_seen == 3 * 240
    found = scores_csv.read(tmp_path / "scores.csv")
    assert torch.equal(found.score > 0.5, wrong) and torch.equal(found.bias_label, predictions)


# Voronoi.


def test_voronoi_takes_the_epoch_of_the_largest_distance(tmp_path: Path) -> None:
    """Against an own record of the same training, epoch by epoch and sample by sample."""

    class Spy(Callback):
        taps = ("bottleneck",)

        def on_fit_start(self, run: Run) -> None:
            self.seen: dict[int, tuple[Tensor, int, int]] = {}
            self.found: list[tuple[float, dict[int, int], dict[int, float]]] = []

        def on_features(self, batch: Batch) -> None:
            for row, i in enumerate(batch.index.tolist()):
                assert batch.logits is not None
                z = batch.features["bottleneck"][row].detach().double()
                self.seen[i] = (z, int(batch.targets[row]), int(batch.logits[row].argmax()))

        def on_epoch_end(self, run: Run) -> None:
            right: dict[int, list[np.ndarray[Any, Any]]] = {}
            for z, t, o in self.seen.values():
                if t == o:
                    right.setdefault(t, []).append(z.numpy())
            mean = {label: np.mean(own, axis=0) for label, own in right.items()}
            unit = sum(float(np.linalg.norm(m)) for m in mean.values()) / len(mean)
            bias, far = {}, {}
            for i, (z, t, o) in self.seen.items():
                if t != o:
                    bias[i], far[i] = o, 0.0
                if t != o and t in mean and o in mean:
                    w = mean[o] - mean[t]
                    h = 0.5 * (mean[t] @ mean[t] - mean[o] @ mean[o])
                    far[i] = abs(w @ z.numpy() + h) / np.linalg.norm(w) / unit
            known = [far[i] for i in far if self.seen[i][1] in mean and bias[i] in mean]
            self.found.append((float(np.mean(known)), bias, far))

    fitted = fit("voronoi", tmp_path / "own")
    spy = Spy()
    job = make_job(tmp_path / "spied", Voronoi())
    trainer = job.trainer("first", [spy])
    trainer.fit()
    assert same(trainer.model.state_dict(), fitted.trainers[0].model.state_dict())
    _, bias, far = max(spy.found[1:], key=lambda entry: entry[0])
    found = scores_csv.read(tmp_path / "own" / "scores.csv")
    assert 5 < len(bias) < 200
    for i, target in enumerate(found.targets.tolist()):
        assert int(found.bias_label[i]) == bias.get(i, target)
        assert (float(found.score[i]) > 0.5) is (i in bias)
        if i in bias:
            expected = max(0.5001, 0.5 + 0.5 * far[i] / (1 + far[i]))
            assert float(found.score[i]) == pytest.approx(expected, abs=1e-4)


def test_voronoi_does_not_flag_samples_that_were_never_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path, Voronoi(), batch_size=32, epochs=2)
    draw = RoundSampler.indices
    # 16 of 240 samples are left out, the same in both epochs.
    monkeypatch.setattr(RoundSampler, "indices", lambda rounds: draw(rounds).sort().values)
    job.settings.pipeline.fit(job)
    found = scores_csv.read(tmp_path / "scores.csv")
    assert (found.score[:224] > 0.5).any()
    assert found.score[224:].eq(0).all()
    assert torch.equal(found.bias_label[224:], found.targets[224:])
    assert found.targets[224:].ne(0).any()


def test_voronoi_weighs_samples_by_the_share_of_their_class(tmp_path: Path) -> None:
    by_target = fit("voronoi", tmp_path / "a")
    found = scores_csv.read(tmp_path / "a" / "scores.csv")
    expected = alignment_weights(found.targets, found.bias_label, 3)
    assert expected.unique().numel() > 3
    callbacks = {c.name: c for c in by_target.trainers[-1].engine.callbacks}
    assert torch.equal(callbacks["alignment_weights"].get_buffer("weights"), expected)
    job = make_job(tmp_path / "b", Voronoi(by="bias"), callbacks=[ConflictingInformation()])
    by_bias = job.settings.pipeline.fit(job)
    assert not same(weights(by_target), weights(by_bias))
    assert [c.name for c in job.settings.callbacks] == ["conflicting_information"]


def test_voronoi_flags_nobody_where_nobody_is_misclassified(tmp_path: Path) -> None:
    class Sure(nn.Module):
        """Answers the class that is written in the first pixel."""

        def __init__(self, n_classes: int) -> None:
            super().__init__()
            self.head = nn.Linear(n_classes, n_classes)
            with torch.no_grad():
                self.head.weight.copy_(100 * torch.eye(n_classes))

        def forward(self, images: Tensor) -> Tensor:
            label = ((images[:, 0, 0, 0] + 0.5) * 255).round().long()
            logits: Tensor = self.head(nn.functional.one_hot(label % 3, 3).float())
            return logits

    class Written(Shapes):
        def train(self) -> Images:
            data = super().train()
            data.images[:, 0, 0, 0] = data.targets.to(torch.uint8)
            return data

    job = make_job(tmp_path, Voronoi(), Written(), model=Sure, lr=1e-6)
    job.settings.pipeline.fit(job)
    found = scores_csv.read(tmp_path / "scores.csv")
    assert found.score.eq(0).all() and torch.equal(found.bias_label, found.targets)


def test_voronoi_needs_an_epoch_after_the_warm_up(tmp_path: Path) -> None:
    job = make_job(tmp_path, Voronoi(), epochs=1)
    with pytest.raises(ConfigError, match="Voronoi: epochs is 1, expected at least 2"):
        job.settings.pipeline.fit(job)
    assert not list(tmp_path.iterdir())


def test_only_conflicting_rows_give_information_away() -> None:
    """The gradient of the removal reaches the features of flagged rows alone."""
    flags = torch.zeros(8)
    flags[[1, 4, 6]] = 1
    for kind, reached in ((Information(1.0), range(8)), (ConflictingInformation(1.0), (1, 4, 6))):
        kind.setup(Run(8, 3, torch.device("cpu"), 0, lambda *_: None, width=lambda _: 8))
        index, features = torch.arange(8), torch.randn(8, 8, requires_grad=True)
        batch = Batch(0, 0, index, features, index % 3, torch.ones(8), torch.zeros(8).bool())
        batch.features = {"bottleneck": features}
        batch.publish("conflict", flags)
        batch.publish("bias_label", torch.arange(8) % 3)
        kind.on_loss(batch)
        term, head = batch.terms[kind.name], batch.terms[f"{kind.name}_head"]
        (gradient,) = torch.autograd.grad(term, features)
        assert set(gradient.abs().sum(1).nonzero().flatten().tolist()) == set(reached)
        (of_head,) = torch.autograd.grad(head, kind.head.weight)
        rows = nn.functional.softmax(kind.head(features), 1) - nn.functional.one_hot(
            torch.arange(8) % 3, 3
        )
        assert torch.allclose(of_head, rows.T @ features / 8, atol=1e-6)  # all rows teach the head


# U-EnD.


def test_clusters_of_biased_features_are_the_bias_values() -> None:
    stream = torch.Generator().manual_seed(0)
    targets = torch.arange(300) % 3
    bias = torch.where(torch.rand(300, generator=stream) < 0.9, targets, (targets + 1) % 3)
    features = nn.functional.one_hot(bias, 3) + 0.1 * torch.randn(300, 3, generator=stream)
    cluster = k_means(features, 3, 10, seed=0)[1]
    assert torch.equal(cluster, k_means(features, 3, 10, seed=0)[1])
    assert len({(int(c), int(b)) for c, b in zip(cluster, bias, strict=True)}) == 3
    score = composition_score(cluster, targets, 3)
    assert torch.equal(score > 0.5, bias != targets)
    for c, t, value in zip(cluster.tolist(), targets.tolist(), score.tolist(), strict=True):
        own = targets[cluster == c].tolist()
        expected = 1 - own.count(t) / max(own.count(label) for label in range(3))
        assert value == pytest.approx(expected, abs=1e-6)


def test_fewer_distinct_rows_than_clusters_are_clustered_all_the_same() -> None:
    assert k_means(torch.ones(5, 2), 3, 10, seed=0)[1].tolist() == [0] * 5


def test_u_end_trains_with_as_many_bias_values_as_it_is_told(tmp_path: Path) -> None:
    job = make_job(tmp_path, UEnD(n_clusters=5, first_epochs=1), callbacks=[Information()])
    fitted = job.settings.pipeline.fit(job)
    first, last = fitted.trainers
    assert (first.epochs, last.epochs) == (1, 3)
    features, _ = bottleneck(first, job.train)
    found = scores_csv.read(tmp_path / "scores.csv")
    assert found.bias_label.unique().tolist() == [0, 1, 2, 3, 4]
    assert last.engine.run.values_of("bias_label") == 5
    near = torch.stack([features[found.bias_label == c].mean(0) for c in range(5)])
    assert (torch.cdist(features, near).argmin(1) == found.bias_label).float().mean() > 0.95


# DFR.


def test_dfr_raises_the_accuracy_of_the_worst_group(tmp_path: Path) -> None:
    job = make_job(tmp_path, DFR(runs=3), epochs=4, lr=0.02)
    fitted = job.settings.pipeline.fit(job)
    assert fitted.oracle and fitted.detection == {} and job.beside.seconds > 0
    plain = make_job(tmp_path / "plain", JTT(), epochs=4, lr=0.02).trainer()
    plain.fit()
    ours = fitted.trainers[0].reports["test"].metrics
    before = plain.reports["test"].metrics
    assert ours["accuracy_conflicting"] > before["accuracy_conflicting"] + 0.3
    assert ours["accuracy_unbiased"] > 0.5
    changed = {
        name
        for name, value in plain.model.state_dict().items()
        if not torch.equal(value, weights(fitted)[name])
    }
    assert changed == {"head.weight", "head.bias"}


def test_dfr_reads_bias_labels(tmp_path: Path) -> None:
    told, spoilt = fit("dfr", tmp_path / "a"), fit("dfr", tmp_path / "b", Shapes(shuffle=True))
    assert not same(weights(told), weights(spoilt))
    job = make_job(tmp_path / "c", DFR(split="validation", runs=3, strengths=(1.0, 0.1)))
    other = job.settings.pipeline.fit(job)
    assert not same(weights(told), weights(other))


def test_dfr_is_the_mean_of_regressions_on_balanced_subsets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new layer on raw features answers as the mean regression on standardised ones does."""
    from online_debias.offline import dfr

    solved: list[tuple[Tensor, Tensor]] = []

    def spy(features: Tensor, targets: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        solved.append(sparse_regression(features, targets, *rest))
        assert targets.bincount().unique().numel() == 1  # as many of each class
        return solved[-1]

    monkeypatch.setattr(dfr, "sparse_regression", spy)
    fitted = fit("dfr", tmp_path)
    assert len(solved) == 2 + 3
    trainer, data = fitted.trainers[0], Shapes().train()
    features = bottleneck(trainer, data)[0].double()
    scaled = (features - features.mean(0)) / features.std(0).clamp_min(1e-12)
    scaled[:, features.std(0) == 0] = 0
    logits = torch.stack([scaled @ weight.T + bias for weight, bias in solved[2:]]).mean(0)
    assert torch.allclose(predict(trainer.model, data, trainer.format).double(), logits, atol=1e-4)
    assert fitted.figures["dfr_strength"] in (1.0, 0.1)


def test_sparse_regressions_minimise_the_penalised_loss() -> None:
    stream = torch.Generator().manual_seed(0)
    features = torch.randn(120, 6, generator=stream).double()
    targets = (features[:, 0] + 0.5 * torch.randn(120, generator=stream)).sign().long().add(1) // 2
    weight, bias = sparse_regression(features, targets, 2, 0.3, seed=0)
    assert torch.allclose(weight[0], -weight[1], atol=1e-2)
    assert (weight[:, 1:].abs() < weight[:, :1].abs()).all()

    def loss(w: Tensor, b: Tensor) -> float:
        sign = 2.0 * targets - 1
        data = nn.functional.softplus(-sign * (features @ w + b)).sum()
        return float(0.3 * data + w.abs().sum() + b.abs())  # liblinear penalises the bias too

    best = loss(weight[1], bias[1])
    for _ in range(50):
        step = 0.05 * torch.randn(7, generator=stream).double()
        assert loss(weight[1] + step[:6], bias[1] + step[6]) > best - 1e-3
    fewer, _ = sparse_regression(features, targets, 2, 0.03, seed=0)
    assert (fewer == 0).sum() > (weight == 0).sum()


def test_subsets_are_balanced_and_halves_share_every_group() -> None:
    group = torch.tensor([0] * 20 + [1] * 7 + [4] * 4 + [5] * 9)
    stream = torch.Generator().manual_seed(0)
    for n_values, least in ((2, 4), (3, 3), (5, 1), (11, 1)):
        rows = balanced(group, n_values, stream)
        conflicting = least * (n_values - 1)
        expected = [least, min(7, conflicting), 0, 0, least, min(9, conflicting)]
        assert group[rows].bincount().tolist() == expected
        assert len(rows.unique()) == len(rows)
    assert not torch.equal(rows, balanced(group, 11, stream))
    first, second = halves(group, stream)
    assert torch.cat([first, second]).sort().values.tolist() == list(range(40))
    assert group[first].bincount().tolist() == [10, 3, 0, 0, 2, 4]


def test_the_bias_does_not_tell_the_class_in_a_balanced_subset() -> None:
    """Ten bias values, evenly spread over the conflicting rows: each as common in each class."""
    targets = torch.arange(5000) % 10
    shift = torch.where(torch.arange(5000) < 4500, 0, torch.arange(5000) // 10 % 9 + 1)
    bias = (targets + shift) % 10
    group = 2 * targets + (bias != targets)
    stream, counts = torch.Generator().manual_seed(0), torch.zeros(10, 10)
    for _ in range(40):
        rows = balanced(group, 10, stream)
        counts += (10 * targets + bias)[rows].bincount(minlength=100).view(10, 10)
    assert (counts / counts.mean() - 1).abs().max() < 0.35


def test_dfr_says_what_it_cannot_use(tmp_path: Path) -> None:
    class NoValidation(Shapes):
        def validation(self) -> None:  # type: ignore[override]
            return None

    class Convolutional(nn.Module):
        def __init__(self, n_classes: int) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(12, 12), nn.Conv2d(3, n_classes, 12))

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.net(images).flatten(1)
            return logits

    def refused(pipeline: DFR, source: Source, **more: Any) -> str:
        job = make_job(tmp_path, pipeline, source, **more)
        with pytest.raises(ConfigError) as caught:
            pipeline.fit(job)
        return str(caught.value)

    text = refused(DFR(split="validation"), NoValidation())
    assert text == ("DFR: split is 'validation', but the data set has none; choose split: train.")
    assert refused(DFR(), Shapes(bias=False)).startswith("DFR reads bias labels, but the split has")
    assert "DFR: the last layer of Convolutional is Conv2d" in refused(
        DFR(), Shapes(), model=Convolutional
    )
    data = make_images(60, rho=1.0)
    with pytest.raises(
        ConfigError, match="bias-conflicting images of class 'bar' is 0, expected at"
    ):
        groups(data)
    with pytest.raises(
        ConfigError, match=r"is Linear\(.*bias=False\), expected a Linear with a bi"
    ):
        last_linear(nn.Sequential(nn.Linear(4, 3, bias=False)), 3)
    with pytest.raises(ConfigError, match="expected a Linear with a bias and 3 outputs"):
        last_linear(nn.Sequential(nn.Linear(4, 2)), 3)
