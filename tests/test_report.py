"""`score` and `report`: what they say of a finished run, and what they refuse."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor, nn

from online_debias.cli import report, score
from online_debias.cli.main import main
from online_debias.data import Images, Source
from online_debias.errors import ConfigError
from online_debias.functional.metrics import detection
from online_debias.memory import Samples
from online_debias.report import attention, curves, groups, suspects
from online_debias.report.features_score import score_features
from online_debias.report.finished import load
from online_debias.report.grad_cam import grad_cam
from online_debias.report.pictures import overlay, sheet, thumbnail
from online_debias.report.samples import collect, remembered, saved_samples
from online_debias.runs.pipeline import OneRun
from online_debias.runtime import checkpoint, scores_csv
from online_debias.runtime.scores_csv import Details, Scores
from online_debias.taps.taps import Taps
from tests.conftest import make_images

ROOT = Path(__file__).resolve().parent.parent
SCORED = """
callbacks:
  - class_path: online_debias.callbacks.ConflictScore
    init_args:
      detector:
        class_path: online_debias.detectors.HalfSpaceTrees
        init_args: {n_trees: 10, height: 4, fold: 64}
  - class_path: online_debias.callbacks.Resample
  - class_path: online_debias.callbacks.EnD
    init_args: {alpha: 0.25}
"""
NAMES = ("bar", "<script>alert(1)</script>", "[bold]ring & co")


class Odd(Source):
    """The shapes with files, names that are dangerous to a page, and no bias labels."""

    summary = "Shapes."
    classes = NAMES

    def __init__(self, there: bool = True, n: int = 240) -> None:
        if not there:
            raise ValueError("There is no folder of shapes; give it with --data.root.")
        self.n = n

    def train(self) -> Images:
        images = make_images(self.n)
        paths = tuple(f"<b>/{'long/' * 9}{i}.png" for i in range(self.n))
        return Images(images.images, images.targets, None, self.classes, paths)

    def validation(self) -> Images:
        images = make_images(60, 0.9, 1)
        return Images(images.images, images.targets, None, self.classes)

    def test(self) -> Images:
        images = make_images(90, 0.33, 2)
        return Images(images.images, images.targets, None, self.classes)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that every test reads and none changes."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(ROOT))
        common = ["train", "--epochs", "3", "--batch_size", "40", "--model.widths", "[8,8,8]"]
        shapes = [*common, "--data", "tests.own.Shapes"]
        Path("scored.yaml").write_text(SCORED)
        assert main([*shapes, "--config", "scored.yaml", "--run", "online"]) == 0
        assert main([*shapes, "--method", "plain", "--run", "plain"]) == 0
        assert main([*shapes, "--method", "jtt", "--run", "jtt"]) == 0
        odd = [*common, "--data", "tests.test_report.Odd"]
        assert main([*odd, "--config", "scored.yaml", "--run", "odd"]) == 0
    return folder


@pytest.fixture
def runs(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the runs, to change."""
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(made, tmp_path / "runs"))


def console() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=80, _environ={}), out


def memory(run: Path) -> Samples:
    return saved_samples(checkpoint.load(run / "last.pt")["engine"])


# score


def test_training_writes_what_was_remembered_of_every_sample(made: Path) -> None:
    found, details = scores_csv.read_all(made / "online" / "scores.csv")
    known = memory(made / "online")
    scores, labels = known.values("conflict"), known.values("bias_label")
    torch.testing.assert_close(found.score, scores, rtol=1e-5, atol=0, equal_nan=True)
    assert torch.equal(found.bias_label, labels.nan_to_num(-1).long())
    assert torch.equal(found.targets, make_images().targets)
    assert details.times_drawn is not None and details.loss is not None
    assert torch.equal(details.times_drawn, known.drawn) and details.times_drawn.sum() >= 3 * 240
    torch.testing.assert_close(details.loss, known.losses, rtol=1e-5, atol=0, equal_nan=True)
    assert details.paths is None and details.noise is None
    _, details = scores_csv.read_all(made / "odd" / "scores.csv")
    assert details.paths == Odd().train().paths


def test_a_method_without_a_score_writes_none(made: Path) -> None:
    assert not (made / "plain" / "scores.csv").exists()
    assert torch.equal(memory(made / "plain").drawn, torch.full((240,), 3))


def test_a_method_of_several_trainings_keeps_the_scores_it_trained_by(made: Path) -> None:
    found, details = scores_csv.read_all(made / "jtt" / "scores.csv")
    assert found.score.unique().tolist() in ([0.0, 1.0], [0.0])
    assert details.times_drawn is not None and int(details.times_drawn.sum()) == 3 * 240
    run = load(made / "jtt")
    changed = found.score.clone()
    changed[0] = 0.375  # no flag that training could have remembered
    scores_csv.write(run.folder / "changed.csv", found._replace(score=changed))
    kept, _ = remembered(
        memory(run.folder), run.train, run.settings.pipeline, run.folder / "changed.csv"
    )
    assert kept is not None and float(kept.score[0]) == 0.375
    own, _ = remembered(memory(run.folder), run.train, OneRun(), run.folder / "changed.csv")
    assert own is not None and float(own.score[0]) != 0.375


def test_score_writes_the_same_file_again(runs: Path) -> None:
    for method in ("online", "jtt"):
        file = runs / method / "scores.csv"
        before = file.read_bytes()
        if method == "online":
            file.unlink()
        assert main(["score", str(runs / method)]) == 0
        assert file.read_bytes() == before
    file.unlink()
    assert main(["score", str(runs / "online"), "--output", "found.csv"]) == 0
    assert Path("found.csv").read_bytes() == (runs / "online" / "scores.csv").read_bytes()
    assert not file.exists()


def test_score_prints_the_most_suspicious_samples(runs: Path) -> None:
    target, out = console()
    score.command(runs / "online", console=target)
    found, _ = scores_csv.read_all(runs / "online" / "scores.csv")
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 or "scores.csv" in max(lines, key=len)
    start = lines.index("The most suspicious samples") + 2
    known = found.score.nan_to_num(0)
    shown = []
    for line in lines[start : start + 10]:
        name, own, looks, value = line.split()
        place = int(name.removeprefix("#"))
        classes = make_images().classes
        assert own == classes[int(found.targets[place])]
        assert looks == classes[int(found.bias_label[place])]
        assert value == f"{float(known[place]):.3f}"
        shown.append(float(known[place]))
    assert shown == known.sort(descending=True).values[:10].tolist()
    flagged = int((known[found.targets == 1] > 0.5).sum())
    seen = int((~found.score[found.targets == 1].isnan()).sum())
    assert f"cross       80{flagged:>13}{f'{flagged / seen:.1%}':>7}" in out.getvalue()


def test_score_prints_names_as_they_are_and_cuts_paths_in_front(runs: Path) -> None:
    target, out = console()
    score.command(runs / "odd", console=target)
    assert "[bold]ring & co" in out.getvalue() and "\x1b" not in out.getvalue()
    assert re.search(r"^…[long/]{20,}/\d+\.png ", out.getvalue(), re.MULTILINE)


def test_score_lists_suspected_noise_apart(runs: Path) -> None:
    state = checkpoint.load(runs / "online" / "last.pt")
    table = torch.full((241,), 0.1)
    table[torch.arange(20, 32)] = torch.linspace(0.6, 0.95, 12)
    state["engine"]["samples"]["scores"]["noise"] = table
    checkpoint.save(runs / "online" / "last.pt", state)
    told = runs / "online" / "results.json"
    results = json.loads(told.read_text())
    told.write_text(json.dumps({**results, "suspected_noise": 5}))
    target, out = console()
    score.command(runs / "online", console=target)
    assert "5 images look mislabelled." in out.getvalue()
    assert "wrong label: 5 samples" in out.getvalue()  # as many as the run itself suspected
    told.write_text(json.dumps(results))
    score.command(runs / "online", console=target)
    listed = out.getvalue().partition("Suspected of a wrong label: 12 samples, led by")[2]
    assert re.findall(r"^#(\d+)", listed, re.MULTILINE) == [str(i) for i in range(31, 21, -1)]
    _, details = scores_csv.read_all(runs / "online" / "scores.csv")
    assert details.noise is not None
    torch.testing.assert_close(details.noise, table[:-1], rtol=1e-5, atol=0)
    page = render(runs / "online")
    assert "12 training images may simply have a wrong label. An image" in page
    assert page.count("<dt>wrong label</dt>") >= 12


def test_score_says_when_nothing_is_suspicious(runs: Path) -> None:
    state = checkpoint.load(runs / "online" / "last.pt")
    state["engine"]["samples"]["scores"]["conflict"].zero_()
    checkpoint.save(runs / "online" / "last.pt", state)
    target, out = console()
    score.command(runs / "online", console=target)
    assert "No sample looks bias-conflicting at all." in out.getvalue()
    assert "No image looks like another class" in render(runs / "online")


def test_score_reads_the_features_of_a_model_trained_without_a_score(runs: Path) -> None:
    target, out = console()
    score.command(runs / "plain", console=target)
    assert "these were made after training" in " ".join(out.getvalue().split())
    found, details = scores_csv.read_all(runs / "plain" / "scores.csv")
    conflicting = make_images().conflicting
    assert conflicting is not None
    assert detection(found.score, conflicting)["auroc"] > 0.95
    first = (runs / "plain" / "scores.csv").read_bytes()
    score.command(runs / "plain", console=target)
    assert (runs / "plain" / "scores.csv").read_bytes() == first
    assert details.times_drawn is not None and details.times_drawn.tolist() == [3] * 240


def test_features_tell_which_images_conflict_and_whose_bias_they_have() -> None:
    class Colour(nn.Module):
        """Features are the mean colour."""

        def __init__(self) -> None:
            super().__init__()
            self.layer1 = nn.AvgPool2d(6)

        def forward(self, images: Tensor) -> Tensor:
            return self.layer1(images).mean((2, 3))

    images, model = make_images(), Colour()
    found = score_features(model, images, Taps(model, None, ["shallow"]), seed=1)
    assert images.bias is not None and images.conflicting is not None
    assert detection(found.score, images.conflicting)["auroc"] > 0.98
    assert float((found.bias_label == images.bias).double().mean()) > 0.95
    assert float(found.score.min()) >= 0 and float(found.score.max()) <= 1


# Grad-CAM


class Net(nn.Module):
    """Two convolutions, and an activation in place."""

    def __init__(self, n_classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.first = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.last = nn.Conv2d(4, 5, 3, stride=2)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(5 * 3 * 4, n_classes)

    def rest(self, features: Tensor) -> Tensor:
        return self.head(self.relu(features).flatten(1))

    def forward(self, images: Tensor) -> Tensor:
        return self.rest(self.last(self.first(images)))


def test_grad_cam_is_that_of_a_slow_reference() -> None:
    model = Net().double().eval()
    images = torch.rand(4, 2, 8, 10, dtype=torch.float64)
    targets = torch.tensor([0, 2, 1, 2])
    with torch.no_grad():
        features = model.last(model.first(images))
        step, maps = 1e-6, []
        for image, target in zip(features, targets.tolist(), strict=True):
            total = torch.zeros(image.shape[1:], dtype=torch.float64)
            for channel in range(len(image)):
                slopes = []
                for place in range(image[channel].numel()):
                    logits = []
                    for sign in (1, -1):
                        moved = image.clone()
                        moved[channel].view(-1)[place] += sign * step
                        logits.append(float(model.rest(moved[None])[0, target]))
                    slopes.append((logits[0] - logits[1]) / (2 * step))
                total += sum(slopes) / len(slopes) * image[channel]
            maps.append(total.clamp_min(0))
        expected = nn.functional.interpolate(
            torch.stack(maps)[:, None], (8, 10), mode="bilinear", align_corners=False
        )[:, 0]
        expected = torch.stack([x / x.max() if x.max() > 0 else x for x in expected])
    assert expected.amax((1, 2)).sum() > 0
    found = grad_cam(model, images, targets)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_grad_cam_leaves_the_model_as_it_is_and_works_on_a_frozen_one() -> None:
    model = Net()
    images, targets = torch.rand(2, 2, 8, 10), torch.tensor([0, 1])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = grad_cam(model, images, targets)
    model.requires_grad_(False)
    with torch.no_grad():
        again = grad_cam(model, images, targets)
    assert torch.equal(first, again) and not first.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.last._forward_hooks and images.grad is None


def test_grad_cam_of_what_nothing_speaks_for_is_zero() -> None:
    model = Net()
    nn.init.zeros_(model.head.weight)
    assert not grad_cam(model, torch.rand(2, 2, 8, 10), torch.tensor([0, 1])).any()


def test_grad_cam_refuses_a_model_without_convolutions() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 2))
    with pytest.raises(ValueError, match="Sequential has no convolutional layer"):
        grad_cam(model, torch.rand(1, 2, 2, 2), torch.tensor([0]))


# Parts of the page


def picture(uri: str) -> Image.Image:
    kind, _, data = uri.partition(";base64,")
    found = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == f"data:image/{(found.format or '').lower()}"
    return found


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_thumbnail_of_a_small_image_is_the_image(channels: int) -> None:
    image = torch.randint(256, (channels, 5, 7), dtype=torch.uint8)
    shown = torch.tensor(list(picture(thumbnail(image)).convert("RGB").tobytes())).view(5, 7, 3)
    expected = image if channels in (1, 3) else image.float().mean(0, keepdim=True).byte()
    assert torch.equal(shown, expected.expand(3, 5, 7).permute(1, 2, 0).long())


def test_a_thumbnail_of_a_large_image_is_small() -> None:
    uri = thumbnail(torch.randint(256, (3, 500, 1000), dtype=torch.uint8))
    assert picture(uri).size == (128, 64) and len(uri) < 20_000


def test_heat_makes_its_place_bright() -> None:
    heat = torch.zeros(28, 28)
    heat[:14] = 1
    shown = overlay(torch.full((3, 28, 28), 100, dtype=torch.uint8), heat).float().mean(0)
    assert shown.shape == (112, 112)
    assert shown[:50].min() > shown[62:].max() + 50


def test_a_sheet_is_not_too_wide(tmp_path: Path) -> None:
    Image.new("RGB", (2000, 100)).save(tmp_path / "samples.png")
    assert picture(sheet(tmp_path / "samples.png")).size == (900, 45)


def test_a_curve_is_drawn_from_its_first_to_its_last_value() -> None:
    given: list[curves.Curve] = [[(10, 0.5), (40, 1.0)], [(0, 0.0), (20, 0.25)]]
    run, against = curves.panel("x", given, end=40).lines
    width, height = curves.WIDTH, curves.HEIGHT
    assert (run.run, against.run) == ("run", "against")
    assert run.points == [(width / 4, height / 2), (width, 0)]
    assert against.points == [(0, height), (width / 2, 0.75 * height)]
    assert (run.value, against.value) == (1.0, 0.25)
    assert [line.run for line in curves.panel("x", [[], given[1]], end=40).lines] == ["against"]


@pytest.mark.parametrize("values", [(0.0, 0.0), (1.0, 1.0), (0.5, 0.51), (0.51, 0.5), (0.98, 0.99)])
def test_labels_that_would_hide_each_other_are_moved_apart(values: tuple[float, float]) -> None:
    lines = curves.panel("x", [[(1, value)] for value in values], end=1).lines
    places = [line.label_y for line in lines]
    assert abs(places[0] - places[1]) == curves.LABEL
    assert (places[0] < places[1]) == (values[0] >= values[1])
    assert all(0 <= place <= curves.HEIGHT for place in places)


def test_labels_that_hide_nothing_stay_beside_their_ends() -> None:
    for line in curves.panel("x", [[(1, 0.2)], [(1, 0.8)]], end=1).lines:
        assert line.label_y == line.points[-1][1]


def test_small_shares_are_enlarged_where_asked_for() -> None:
    assert curves.panel("x", [[(0, 0.02), (9, 0.03)]], 9, enlarge=True).ceiling == 0.05
    assert curves.panel("x", [[(0, 0.02), (9, 0.03)]], 9).ceiling == 1


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    given = [(step, step / 5000) for step in range(5001)]
    (line,) = curves.panel("x", [given], end=5000).lines
    assert len(line.points) <= curves.POINTS + 1
    assert line.points[0] == (0, curves.HEIGHT) and line.points[-1] == (curves.WIDTH, 0)


def test_values_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(
        "step,epoch,split,name,value\n1,0,train,train/loss,nan\n2,0,train,train/loss,0.5\n"
    )
    assert curves.read(tmp_path / "m.csv") == {("train", "train/loss"): [(2, 0.5)]}


def test_pseudo_groups_are_counted_by_score() -> None:
    nan = torch.nan
    found = Scores(
        torch.tensor([0, 0, 0, 0, 1]),
        torch.tensor([0.9, 0.1, 0.5, nan, nan]),
        torch.zeros(5).long(),
    )
    details = Details(loss=torch.tensor([3.0, 1.0, 2.0, nan, nan]))
    assert groups.pseudo_groups(found, details, ("cat", "dog")) == [
        groups.PseudoGroups("cat", 4, 1, 1 / 3, (1.5, 3.0)),
        groups.PseudoGroups("dog", 1, 0, None, (None, None)),
    ]


def test_true_groups_are_a_table_or_the_worst_of_many() -> None:
    few = {
        ("test", f"group/{y}_{b}"): [(1, 0.0), (2, y / 4 + b / 2)] for y in (0, 1) for b in (0, 1)
    }
    del few["test", "group/1_0"]
    found = groups.true_groups(few, ("cat", "dog"))
    assert found == groups.Groups(
        ["cat", "dog"], [groups.Row("cat", [0.0, 0.5]), groups.Row("dog", [None, 0.75])], 3
    )
    names = tuple(f"c{i}" for i in range(13))
    many = {("test", f"group/{y}_{b}"): [(1, y + b / 100)] for y in range(13) for b in range(13)}
    found = groups.true_groups(many, names)
    assert found is not None and found.total == 169 and not found.columns
    assert len(found.rows) == groups.WORST
    assert found.rows[14] == groups.Row("c1, looks like c1", [1.01])
    assert groups.true_groups({("validation", "group/0_0"): [(1, 0.5)]}, names) is None


def many_classes(n: int) -> tuple[Images, Scores]:
    targets = torch.arange(4 * n) % n
    pixels = torch.randint(256, (4 * n, 1, 4, 4), dtype=torch.uint8)
    images = Images(pixels, targets, None, tuple(f"c{i}" for i in range(n)))
    score = torch.where(torch.arange(4 * n) < n, targets / n, 0.0)
    return images, Scores(targets, score, targets.roll(1))


def test_of_many_classes_the_most_conflicting_come_first() -> None:
    images, found = many_classes(100)
    cards = suspects.of_classes(images, found, Details())
    assert [x.share for x in cards[:49]] == [0.25] * 49 and cards[60].share == 0
    assert {x.name for x in cards[:49]} == {f"c{i}" for i in range(51, 100)}
    assert all(len(x.highest) == 1 and len(x.lowest) <= suspects.FEW for x in cards[:49])


def test_no_image_is_both_the_most_and_the_least_suspicious() -> None:
    images, found = many_classes(2)
    found = found._replace(score=torch.linspace(0.1, 0.9, 8))
    for cards in suspects.of_classes(images, found, Details()):
        names = [card.name for card in (*cards.highest, *cards.lowest)]
        assert len(names) == len(set(names)) == 4


def test_unseen_samples_are_not_shown() -> None:
    images, found = many_classes(2)
    score = torch.tensor([0.9, 0.2, torch.nan, torch.nan, torch.nan, 0.3, 0.1, torch.nan])
    cards = suspects.of_classes(images, found._replace(score=score), Details())
    shown = [card.name for x in cards for card in (*x.highest, *x.lowest)]
    assert sorted(shown) == ["#0", "#1", "#5", "#6"]


# The page


def render(run: Path, *arguments: str) -> str:
    assert main(["report", str(run), *arguments]) == 0
    return (run / "report.html").read_text(encoding="utf-8")


class Outline(HTMLParser):
    """What a screen reader finds."""

    VOID = frozenset({"meta", "img", "br", "path", "line", "circle", "polyline"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag in tags]


def check(page: str) -> Outline:
    """Check what holds for every page: one file, no script, and usable without seeing it."""
    outline = Outline(page)
    assert not outline.all("script", "link", "iframe", "object", "base", "form")
    for _, attributes in outline.found:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "action", "xlink:href"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/")), value
    style = page.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style and "@import" not in style
    headings = [int(tag[1]) for tag, _ in outline.found if re.fullmatch(r"h\d", tag)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(headings, headings[1:], strict=False))
    for landmark in ("main", "header", "footer", "nav"):
        assert len(outline.all(landmark)) == 1
    assert outline.all("html")[0]["lang"] == "en" and len(outline.all("title")) == 1
    assert all(cell.get("scope") in ("row", "col") for cell in outline.all("th"))
    assert len(outline.all("caption")) == len(outline.all("table"))
    assert all(image.get("alt") for image in outline.all("img"))
    assert all(x.get("aria-label") or x.get("aria-hidden") for x in outline.all("svg"))
    ids = [attributes["id"] for _, attributes in outline.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes in (a for _, a in outline.found):
        for target in ((attributes.get("href") or "#")[1:], attributes.get("aria-labelledby")):
            assert not target or target in ids
    for scrolled in (a for _, a in outline.found if a.get("role") == "region"):
        assert scrolled.get("tabindex") == "0" and scrolled.get("aria-label")
    return outline


def test_a_page_says_everything_of_the_run(runs: Path) -> None:
    page = render(runs / "online")
    outline = check(page)
    titles = re.findall(r"<h2[^>]*>([^<]+)</h2>", page)
    assert titles == ["Curves", "Groups", "Suspicious images", "Cost", "Settings"]
    results = json.loads((runs / "online" / "results.json").read_text())
    for value in (results["accuracy"], results["accuracy_worst_group"]):
        assert f"<td>{100 * value:.1f}</td>" in page
    assert "True groups of the test images" in outline.text
    assert "bar, looks like" in " ".join(outline.text.split())
    assert "alpha: 0.25" in outline.text and results["versions"]["torch"] in outline.text
    found, details = scores_csv.read_all(runs / "online" / "scores.csv")
    assert details.times_drawn is not None
    worst = int(found.score.nan_to_num(0).argmax())
    card = page[page.index(f"#{worst}<br>") :][:600]
    assert f"<dd>{float(found.score[worst]):.3f}</dd>" in card
    assert f"<dt>times drawn</dt><dd>{int(details.times_drawn[worst])}</dd>" in card
    looks = make_images().classes[int(found.bias_label[worst])]
    assert f'<span class="looks">looks like {looks}</span>' in card
    assert page.count("<polyline") == page.count('<polyline class="run"') > 8
    accuracy = f"{100 * results['accuracy']:.1f}"
    assert f'aria-label="all: in the end this run {accuracy} %"' in page
    assert f">{accuracy}</text>" in page and ">100</text>" in page


def test_a_page_compares_two_runs(runs: Path) -> None:
    page = render(runs / "online", "--against", str(runs / "plain"))
    outline = check(page)
    assert "Where the models look" in page
    text = " ".join(outline.text.split())
    assert "plain says" in text and "custom says" in text
    assert page.count('<polyline class="against"') > 4
    against = json.loads((runs / "plain" / "results.json").read_text())
    assert f"<td>{100 * against['accuracy_unbiased']:.1f}</td>" in page
    assert f", the other run {100 * against['accuracy']:.1f} %" in page
    assert text.count("config.yaml") == 2
    assert len(page) < 400_000


def test_a_page_of_a_run_without_a_score_or_annotations_or_safe_names(runs: Path) -> None:
    check(render(runs / "plain"))
    assert "these were made after training" in (runs / "plain" / "report.html").read_text()
    page = render(runs / "odd")
    outline = check(page)
    assert "<script" not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<b>" not in page and "&lt;b&gt;/long/" in page
    assert "[bold]ring & co" in outline.text
    assert "pseudo-groups" in outline.text and "by bias labels" not in outline.text
    check(render(runs / "jtt"))


def test_a_page_of_a_run_that_withheld_all_scores_says_so_once(runs: Path) -> None:
    path = runs / "online" / "last.pt"
    state = checkpoint.load(path)
    samples = state["engine"]["samples"]
    for table in (samples["scores"]["conflict"], samples["labels"]["bias_label"]):
        table.fill_(torch.nan)
    del state["format"]
    checkpoint.save(path, state)
    outline = check(render(runs / "online"))
    assert "the run withheld all scores" in outline.text
    for heading in ("Most suspicious", "Least suspicious", "Pseudo-groups of"):
        assert heading not in outline.text


def test_a_page_is_written_where_it_is_asked_for(runs: Path) -> None:
    assert main(["report", str(runs / "plain"), "--output", "page.html"]) == 0
    check(Path("page.html").read_text())
    assert not (runs / "plain" / "report.html").exists()


def test_a_page_shows_the_images_that_a_diffusion_model_drew(runs: Path) -> None:
    (runs / "plain" / "diffusion").mkdir()
    Image.new("RGB", (40, 30), "red").save(runs / "plain" / "diffusion" / "samples.png")
    page = render(runs / "plain")
    outline = check(page)
    assert "Synthetic images" in page and "(diffusion/samples.png)" in outline.text
    uri = next(x["src"] for x in outline.all("img") if "drawn from" in (x["alt"] or ""))
    assert uri is not None and picture(uri).getpixel((20, 15)) == (255, 0, 0)


def test_where_models_look_is_left_out_with_a_reason(made: Path, runs: Path) -> None:
    online, odd = load(made / "online"), load(made / "odd")
    found, _, _ = collect(online)
    assert "different images" in str(attention.compare([online, odd], found))
    nothing = found._replace(score=torch.zeros(240))
    assert "no training image" in str(attention.compare([online, online], nothing))
    flat = load(made / "plain")
    own = replace(flat.settings, model=lambda n: nn.Sequential(nn.Flatten(), nn.Linear(432, n)))
    flat = replace(flat, settings=own)
    weights = {"1.weight": torch.zeros(3, 432), "1.bias": torch.zeros(3)}
    import safetensors.torch

    safetensors.torch.save_file(weights, runs / "plain" / "model.safetensors")
    object.__setattr__(flat, "folder", runs / "plain")
    said = str(attention.compare([online, flat], found))
    assert "(Sequential) has no convolutions" in said


def contrast(one: str, other: str) -> float:
    """The ratio of the Web Content Accessibility Guidelines."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def blend(one: str, other: str, share: float) -> str:
    parts = [(int(one[i : i + 2], 16), int(other[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in parts)


def test_text_stands_out_from_the_paper_in_light_and_dark() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    page = (ROOT / "online_debias" / "report" / "page.html").read_text()
    themes = [
        dict(re.findall(r"--(\w+): (#\w{6})", part))
        for part in re.findall(r":root \{(.*?)\}", page, re.DOTALL)
    ]
    assert len(themes) == 2 and themes[0].keys() == themes[1].keys()
    for theme in themes:
        for name in ("ink", "muted", "run", "against", "alert"):
            assert contrast(theme[name], theme["paper"]) >= 4.5, name
        assert contrast(theme["ink"], theme["raised"]) >= 4.5
        cell = blend(theme["run"], theme["paper"], 0.4)  # of a group that is always right
        assert contrast(theme["ink"], cell) >= 4.5


# What is refused


def unfinished(run: Path) -> None:
    (run / "results.json").unlink()


def foreign(run: Path) -> None:
    (run / "config.yaml").unlink()


def damaged_results(run: Path) -> None:
    (run / "results.json").write_text('{"method": ')


def results_of_something_else(run: Path) -> None:
    (run / "results.json").write_text("[]")


def no_checkpoint(run: Path) -> None:
    (run / "last.pt").unlink()


def older_version(run: Path) -> None:
    state = checkpoint.load(run / "last.pt")
    torch.save({**state, "format": 3}, run / "last.pt")


def other_data(run: Path) -> None:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("n: 240", "n: 90"))


def no_data(run: Path) -> None:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("there: true", "there: false"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (unfinished, r"The run in .*odd is not finished; go on with it by .*--resume"),
        (foreign, r"There is no run in .*odd: it has no config\.yaml; name the folder"),
        (shutil.rmtree, r"There is no run in .*odd: it has no config\.yaml; name the folder"),
        (damaged_results, r"results\.json is damaged \(.*\); go on with it by"),
        (results_of_something_else, r"results\.json is not what a run writes"),
        (no_checkpoint, r"There is no checkpoint .*last\.pt"),
        (
            older_version,
            r"last\.pt is not a checkpoint of format 4; use one",
        ),
        (other_data, r"last\.pt is of 240 training samples, but there are 90 now"),
        (no_data, r"There is no folder of shapes"),
    ],
)
def test_a_run_that_cannot_be_read_is_one_sentence(
    spoil: Callable[[Any], Any], message: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(runs / "odd")
    for command in ("score", "report"):
        assert main([command, str(runs / "odd")]) == 1
        error = capsys.readouterr().err
        assert error.startswith("online-debias: ") and error.count("\n") == 1, error
        assert re.search(message, error), error
    assert not (runs / "odd" / "report.html").exists()


def test_a_run_without_its_curves_or_its_model_is_one_sentence(runs: Path) -> None:
    (runs / "online" / "metrics.csv").write_text("step,value\n1,2\n")
    with pytest.raises(ConfigError, match=r"metrics\.csv cannot be read, expected the columns"):
        report.command(runs / "online")
    (runs / "plain" / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ConfigError, match=r"model\.safetensors is damaged or of another network"):
        score.command(runs / "plain")
    (runs / "plain" / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"plain has lost its model\.safetensors"):
        score.command(runs / "plain")


def test_scores_of_other_data_are_not_taken_for_the_runs_own(runs: Path) -> None:
    found, _ = scores_csv.read_all(runs / "jtt" / "scores.csv")
    scores_csv.write(runs / "jtt" / "scores.csv", found._replace(targets=found.targets.roll(1)))
    with pytest.raises(ConfigError, match=r"scores\.csv has 240 rows of other targets"):
        score.command(runs / "jtt")


def test_a_page_that_cannot_be_written_is_one_sentence(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(runs / "plain"), "--output", str(runs / "none" / "x.html")]) == 1
    assert "Cannot write" in capsys.readouterr().err
