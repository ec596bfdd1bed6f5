"""TensorBoard's event files, read back: of a real run, and of an engine on a tiny model."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from online_debias.callbacks.monitors import Detection, TensorBoard
from online_debias.callbacks.monitors.captions import captioned, thumbnails
from online_debias.callbacks.monitors.tensorboard import MANY, TOP
from online_debias.cli.main import main
from online_debias.data.images import Images
from online_debias.engine import Batch, Callback, Run
from online_debias.functional.metrics import Report
from online_debias.training.image_grid import grid
from tests.conftest import CLASSES, keep
from tests.own import Shapes
from tests.test_monitors import Fit, images

torch.set_num_threads(1)

LABEL_FREE = {
    "train/loss",
    "train/accuracy",
    "train/accuracy_pseudo_aligned",
    "train/accuracy_pseudo_conflicting",
    "validation/accuracy",
    "validation/accuracy_pseudo_aligned",
    "validation/accuracy_pseudo_conflicting",
    "validation/accuracy_pseudo_unbiased",
    "eval/accuracy",
    "detect/share_flagged",
    *(f"detect/share_flagged/{name}" for name in CLASSES),
    "shortcut/evidence",
    "weights/ess",
    "weights/max",
    "terms/end",
    "time/step_ms",
    "time/end_ms",
    "time/conflict_score_ms",
}
LABELLED = {
    "eval/accuracy_unbiased",
    "eval/accuracy_worst_group",
    "eval/accuracy_conflicting",
    *(f"eval/group/{y}_{b}" for y in range(3) for b in range(3)),
    "detect/auroc",
    "detect/average_precision",
    "weights/share_conflicting",
}


class Evidence(Callback):
    """Records what a verdict on the whole run would."""

    def on_epoch_end(self, run: Any) -> None:
        run.record("shortcut/evidence", 0.875)


class Unlabelled(Shapes):
    """The shapes; nobody annotated any split."""

    def train(self) -> Images:
        return without_bias(super().train())

    def validation(self) -> Images:
        return without_bias(super().validation())

    def test(self) -> Images:
        return without_bias(super().test())


def without_bias(images: Images) -> Images:
    return Images(images.images, images.targets, None, images.classes)


def events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder), {"tensors": 0, "scalars": 0, "images": 0})
    return reader.Reload()


def picture(reader: Any, tag: str) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(reader.Images(tag)[-1].encoded_image_string))


def panels(reader: Any) -> dict[str, list[str]]:
    """Title of each category of the layout -> the tags of its panels, in order."""
    from tensorboard.plugins.custom_scalar import layout_pb2

    proto = reader.Tensors("custom_scalars__config__")[-1].tensor_proto
    found = layout_pb2.Layout.FromString(proto.string_val[0])
    return {
        category.title: [tag for chart in category.chart for tag in chart.multiline.tag]
        for category in found.category
    }


def hparams(reader: Any) -> tuple[dict[str, Any], set[str]]:
    """Settings and the tags of metrics in the run's HParams entry."""
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    def content(tag: str) -> Any:
        data = reader.summary_metadata[tag].plugin_data.content
        return plugin_data_pb2.HParamsPluginData.FromString(data)

    settings = content(metadata.SESSION_START_INFO_TAG).session_start_info.hparams
    values = {name: getattr(v, str(v.WhichOneof("kind"))) for name, v in settings.items()}
    infos = content(metadata.EXPERIMENT_TAG).experiment.metric_infos
    return values, {info.name.tag for info in infos}


# A real run


@pytest.fixture(scope="module", params=["Shapes", "Unlabelled"])
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The event file of three epochs, on data with bias labels and on data without any."""
    folder = tmp_path_factory.mktemp(request.param)
    callbacks = [
        {
            "class_path": "ConflictScore",
            "init_args": {
                "detector": {
                    "class_path": "HalfSpaceTrees",
                    "init_args": {"n_trees": 10, "fold": 64},
                }
            },
        },
        {"class_path": "Resample"},
        {"class_path": "CrossBiasMix"},
        {"class_path": "EnD"},
        {"class_path": "tests.test_tensorboard.Evidence"},
    ]
    (folder / "settings.yaml").write_text(yaml.safe_dump({"callbacks": callbacks}))
    source = f"tests.test_tensorboard.{request.param}"
    settings = ["--config", str(folder / "settings.yaml"), "--run", str(folder / "run")]
    main(["train", "--data", source, "--epochs", "3", "--batch_size", "24", *settings])
    assert not [path for path in (folder / "run").iterdir() if path.is_dir()]
    found = events(folder / "run")
    found.labelled = request.param == "Shapes"
    return found


def test_a_real_run_has_every_tag(reader: Any) -> None:
    tags = reader.Tags()
    assert set(tags["scalars"]) >= LABEL_FREE
    if reader.labelled:
        assert set(tags["scalars"]) >= LABELLED
    else:
        assert not [tag for tag in tags["scalars"] if tag in LABELLED or "/group/" in tag]
    assert set(tags["images"]) == {"detect/top_scored", "detect/lowest_scored"}
    assert set(tags["histograms"]) == {f"scores/{name}" for name in CLASSES}
    assert ("detect/pr" in tags["tensors"]) is reader.labelled
    assert "settings/text_summary" in tags["tensors"]
    for tag in ("detect/share_flagged", "detect/share_flagged/ring", "eval/accuracy"):
        assert [event.step for event in reader.Scalars(tag)][-1] == 30


def test_a_class_is_flagged_as_often_as_its_scores_are_above_one_half(reader: Any) -> None:
    shares = [reader.Scalars(f"detect/share_flagged/{name}")[-1].value for name in CLASSES]
    whole = reader.Scalars("detect/share_flagged")[-1].value
    assert 0 < whole < max(shares) < 1
    assert sum(shares) / 3 == pytest.approx(whole)  # all classes have as many images


def test_every_panel_of_the_layout_shows_something(reader: Any) -> None:
    found = panels(reader)
    titles = ["Without bias labels", *["With bias labels"] * reader.labelled, "Training"]
    assert list(found) == titles
    assert found["Without bias labels"] == [
        "shortcut/(evidence|followed|part)$",
        "detect/share_flagged$",
        "detect/share_flagged/.*",
        "train/accuracy_pseudo_.*",
        "validation/accuracy_pseudo_.*",
        "weights/ess$",
    ]
    scalars = reader.Tags()["scalars"]
    for category, patterns in found.items():
        for pattern in patterns:
            shown = {tag for tag in scalars if re.match(pattern, tag)}  # as the page does
            assert shown, pattern
            assert bool(shown & LABELLED) is (category == "With bias labels")


def test_settings_and_final_metrics_are_one_entry_in_the_hparams_tab(reader: Any) -> None:
    settings, metrics = hparams(reader)
    assert settings["epochs"] == 3
    assert settings["batch_size"] == 24
    assert "eval/accuracy" in metrics
    assert ("eval/accuracy_worst_group" in metrics) is reader.labelled


def test_the_images_decode(reader: Any) -> None:
    for tag in ("detect/top_scored", "detect/lowest_scored"):
        assert len(reader.Images(tag)) == 3  # one an epoch
        shown = picture(reader, tag)
        assert shown.size == (6 * 98 - 2, 5 * (96 + 34 + 2) - 2)
        assert len(shown.getcolors(10**6)) > 50


def test_a_run_without_a_scorer_shows_what_it_has(tmp_path: Path) -> None:
    run = ["--epochs", "1", "--batch_size", "24", "--run", str(tmp_path / "run")]
    main(["train", "--data", "tests.own.Shapes", "--method", "plain", *run])
    found = events(tmp_path / "run")
    tags = found.Tags()
    shown = {"train/loss", "weights/ess", "weights/max", "eval/accuracy_worst_group"}
    assert shown <= set(tags["scalars"]) and not tags["images"] and not tags["histograms"]
    assert "eval/accuracy_unbiased" in hparams(found)[1]
    assert panels(found)["Without bias labels"] == ["weights/ess$"]


# An engine on a tiny model


def test_tensorboard_shows_everything_there_is(tmp_path):
    detection = Detection()
    settings = {"lr": 4e-3, "data": {"name": "digits", "root": tmp_path, "sizes": [1, 2]}}
    board = TensorBoard(tmp_path, detection, images(), settings)
    Fit(board, detection).epochs(2).end()
    reader = events(tmp_path)
    tags = reader.Tags()
    assert set(tags["scalars"]) == {
        "train/loss",
        "train/accuracy",
        "train/accuracy_pseudo_aligned",
        "train/accuracy_pseudo_conflicting",
        "weights/toy",
        "weights/ess",
        "weights/max",
        "weights/share_conflicting",
        "terms/toy",
        "time/toy_ms",
        "time/step_ms",
        "detect/share_flagged",
        "detect/share_flagged/cat",
        "detect/share_flagged/dog",
        "detect/auroc",
        "detect/average_precision",
        *(f"eval/accuracy{name}" for name in ("", "_unbiased", "_worst_group")),
        *(f"validation/accuracy{name}" for name in ("", "_unbiased", "_worst_group")),
        *(f"{split}/group/{y}_0" for split in ("eval", "validation") for y in (0, 1)),
    }
    assert set(tags["images"]) == {"detect/top_scored", "detect/lowest_scored"}
    assert set(tags["histograms"]) == {"scores/cat", "scores/dog"}
    assert {"custom_scalars__config__", "settings/text_summary", "detect/pr"} <= set(
        tags["tensors"]
    )
    assert [event.step for event in reader.Scalars("eval/accuracy_unbiased")] == [4, 8]
    assert [event.step for event in reader.Scalars("train/loss")] == [2, 3, 5, 7]
    assert reader.Scalars("eval/group/1_0")[-1].value == 0.25
    text = reader.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
    assert text.startswith("```yaml\nlr: 0.004\ndata:\n  name: digits\n  root: ")
    assert text.endswith("```")
    assert not any(path.is_dir() for path in tmp_path.iterdir())


def test_tensorboard_shows_the_highest_scored_images_first(tmp_path):
    detection = Detection()
    fit = Fit(TensorBoard(tmp_path, detection, images()), detection).epochs(1)
    fit.end()
    reader = events(tmp_path)
    seen = fit.engine.run.samples.values("conflict").nan_to_num(-1)
    for tag, best in (
        ("top_scored", seen.argmax()),
        ("lowest_scored", seen.masked_fill(seen < 0, 2).argmin()),
    ):
        shown = picture(reader, f"detect/{tag}")
        assert shown.getpixel((0, 0)) == (int(best),) * 3  # image i has the value i


def test_tensorboard_writes_hparams_in_the_folder_of_the_run(tmp_path):
    Fit(TensorBoard(tmp_path, settings={"lr": 0.5, "data": {"rho": 0.75}})).epochs(1).end()
    settings, metrics = hparams(events(tmp_path))
    assert settings == {"lr": 0.5, "data.rho": 0.75}
    assert "eval/accuracy_unbiased" in metrics


def test_tensorboard_without_annotations_draws_no_precision_recall_curve(tmp_path):
    detection = Detection()
    Fit(detection, TensorBoard(tmp_path, detection), bias=False).epochs(1).end()
    tags = events(tmp_path).Tags()
    assert "detect/pr" not in tags["tensors"] and "detect/share_flagged" in tags["scalars"]


def test_tensorboard_of_a_resumed_run_purges_what_came_after_the_checkpoint(tmp_path):
    fit = Fit(TensorBoard(tmp_path)).epochs(1)
    state = fit.engine.state_dict()
    fit.epochs(2).end()
    time.sleep(1.1)  # files are read in the order of their names, which begin with the second
    again = Fit(TensorBoard(tmp_path))
    again.engine.load_state_dict(state)
    again.epochs(1).end()
    reader = events(tmp_path)
    assert [event.step for event in reader.Scalars("eval/accuracy")] == [4, 8]
    assert [event.step for event in reader.Scalars("train/loss")] == [2, 3, 5, 7]


def test_tensorboard_is_on_disk_after_an_exception(tmp_path):
    fit = Fit(TensorBoard(tmp_path)).epochs(1)
    fit.engine.watch("on_exception", fit.engine.run, KeyboardInterrupt())
    assert "eval/accuracy" in events(tmp_path).Tags()["scalars"]
    fit.engine.watch("on_fit_end", fit.engine.run)


def crowd(classes: int, of_last: int, size: int = 8) -> Images:
    """Two images a class, more of the last one."""
    targets = torch.cat([torch.arange(classes).repeat(2), torch.full((of_last,), classes - 1)])
    pixels = torch.zeros(len(targets), 1, size, size, dtype=torch.uint8)
    return Images(pixels, targets, targets, tuple(f"class {i}" for i in range(classes)))


def shown(folder: Path, data: Images, groups: dict[tuple[int, int], tuple[float, int]]) -> Any:
    """What one epoch with a score for every image leaves behind."""
    detection, run = Detection(), Run(len(data), len(data.classes), torch.device("cpu"), 0, print)
    board = TensorBoard(folder, detection, data)
    board.on_fit_start(run)
    index = torch.arange(len(data))
    batch = Batch(0, 0, index, data.images, data.targets, index.float(), index < 0)
    batch.logits = torch.zeros(len(data), len(data.classes))
    batch.publish("conflict", torch.rand(len(data)))
    batch.publish("bias_label", torch.zeros_like(data.targets))
    detection.on_fit_start(run)
    keep(run.samples, batch)
    detection.on_step_end(batch, None, run)
    board.on_epoch_end(run)
    board.on_evaluate(Report("test", 0, 0, {"accuracy": 1.0}, groups), run)
    board.on_fit_end(run)
    return events(folder)


def test_of_many_classes_the_largest_have_curves(tmp_path):
    data = crowd(100, of_last=1)
    groups = {(y, b): (0.5, 1) for y in range(100) for b in range(100)}
    tags = shown(tmp_path, data, groups).Tags()
    followed = [f"class {i}" for i in (*range(MANY - 1), 99)]
    assert set(tags["histograms"]) == {f"scores/{name}" for name in followed}
    shares = {tag for tag in tags["scalars"] if tag.startswith("detect/share_flagged/")}
    assert shares == {f"detect/share_flagged/{name}" for name in followed}
    cells = [tag for tag in tags["scalars"] if tag.startswith("eval/group/")]
    assert len(cells) == MANY**2 and "eval/group/99_99" in cells and "eval/group/50_50" not in cells


def test_few_groups_of_many_classes_are_all_shown(tmp_path):
    groups = {(y, b): (0.5, 1) for y in range(100) for b in range(2)}
    tags = shown(tmp_path, crowd(100, of_last=0), groups).Tags()["scalars"]
    assert len([tag for tag in tags if tag.startswith("eval/group/")]) == 200


@pytest.mark.parametrize(("size", "side"), [(3, 96), (8, 96), (64, 64), (300, 128)])
def test_images_of_any_size_make_a_picture_that_fits(tmp_path, size, side):
    found = picture(shown(tmp_path, crowd(3, TOP, size), {}), "detect/top_scored")
    assert found.size == (6 * (side + 2) - 2, 5 * (side + 34 + 2) - 2)


def test_thumbnails_keep_what_is_in_the_image():
    wide = torch.zeros(2, 3, 100, 400, dtype=torch.uint8)
    wide[1, 0, :, 200:] = 200
    small = thumbnails(wide)
    assert small.shape == (2, 3, 32, 128) and not small[0].any()
    assert (small[1, 0, :, 64:] == 200).all() and not small[1, 1:].any()
    four = torch.tensor([10, 20, 30, 40], dtype=torch.uint8).view(1, 4, 1, 1)
    assert thumbnails(four.expand(1, 4, 96, 96)).unique().tolist() == [25]
    grey = torch.full((1, 1, 48, 48), 7, dtype=torch.uint8)
    assert thumbnails(grey).shape == (1, 3, 96, 96)


def test_captions_stand_under_their_image_and_fit_it():
    blank = torch.zeros(3, 3, 96, 96, dtype=torch.uint8)
    sheet = captioned(blank, [("cat", "like dog"), ("cat", ""), ("w" * 500, "üé→中" * 50)])
    assert sheet.shape == (3, 3, 130, 96) and not sheet[:, :, :96].any()
    words = sheet[:, :, 96:]
    upper, lower = words[:, :, :16], words[:, :, 19:]
    assert torch.equal(upper[0], upper[1]) and (upper[0] < 128).any()
    assert (lower[1] == 255).all()
    red = (lower[0, 0].int() - lower[0, 1].int()) > 60
    assert red.any()  # what the biased view saw
    assert (words[2] < 255).any()


def test_grid_lays_images_out_row_by_row():
    values = torch.arange(1, 4, dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 1, 64, 50)
    sheet = grid(values, columns=2, gap=2)
    assert sheet.shape == (1, 130, 102)
    corners = [int(sheet[0, y, x]) for y in (0, 66) for x in (0, 52)]
    assert corners == [1, 2, 3, 255]
    assert int(sheet[0, 64, 0]) == 255  # the gap
