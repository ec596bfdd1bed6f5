"""Pictures of a comparison: what is drawn, and that nothing is drawn of nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

from online_debias.comparison import figures, plots
from online_debias.comparison.summary import Section, summarize
from online_debias.errors import ConfigError

METHODS = ("plain", "two-step", "group-dro", "online")
HEADER = "step,epoch,split,name,value\n"


def rows(
    methods: Sequence[str] = METHODS, ratios: Sequence[str] = ("0.98",), best: float = 0.8
) -> list[dict[str, str]]:
    """Three seeds a method; the later in the list, the better, up to `best`."""
    made = []
    for ratio in ratios:
        for i, method in enumerate(methods):
            for seed in range(3):
                run = {
                    "accuracy_unbiased": best * (i + 1) / len(methods) + 0.01 * (seed - 1),
                    "training_passes": 1 + (method == "two-step"),
                    "seconds_training": 10.0 * (i + 1),
                    "oracle": method == "group-dro",
                }
                key = {"method": method, "data": "digits", "ratio": ratio, "seed": str(seed)}
                made += [{**key, "metric": m, "value": str(float(v))} for m, v in run.items()]
    return made


def found(*given: Any, **more: Any) -> list[Section]:
    return summarize(rows(*given, **more), "last")


def metrics(path: Path, level: float, *, groups: bool = True, detects: bool = True) -> Path:
    """A metrics.csv of two epochs."""
    lines = []
    for epoch in (1, 2):
        for name in plots.GROUPS if groups else ["accuracy"]:
            lines.append(f"{9 * epoch},{epoch},test,{name},{level * epoch}")
            lines.append(f"{9 * epoch},{epoch},validation,{name},0.123")
        for name in plots.DETECTION if detects else ():
            lines.append(f"{9 * epoch},{epoch - 1},train,{name},{level * epoch}")
    path.write_text(HEADER + "\n".join(lines) + "\n")
    return path


def curves(folder: Path, level: float = 0.4, **kind: bool) -> dict[str, list[Path]]:
    """Two methods with two seeds each."""
    return {
        method: [
            metrics(folder / f"{method}{seed}.csv", level + 0.1 * seed, **kind) for seed in (0, 1)
        ]
        for method in ("plain", "online")
    }


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures as they are when they would be written, which takes long."""
    seen: list[Any] = []

    def keep(figure: Figure, path: Path) -> None:
        seen.append(figure)

    monkeypatch.setattr(figures, "write", keep)
    return seen


Draw = Callable[[Path, float], bool]


def cost(path: Path, level: float) -> bool:
    return plots.accuracy_against_cost(found(best=level)[0], path)


def ratio(path: Path, level: float) -> bool:
    return plots.accuracy_against_ratio(found(ratios=("0.95", "0.98"), best=level), path)


def learning(path: Path, level: float) -> bool:
    return plots.learning_curves(curves(path.parent, level / 2), path)


def detection(path: Path, level: float) -> bool:
    return plots.detection_curves(curves(path.parent, level / 2), path)


PICTURES = (cost, ratio, learning, detection)


@pytest.mark.parametrize("draw", PICTURES)
def test_a_picture_has_the_width_of_a_page_and_shows_its_data(tmp_path: Path, draw: Draw) -> None:
    first, other = tmp_path / "first.png", tmp_path / "other.png"
    assert draw(first, 0.8) and draw(other, 0.6)
    with Image.open(first) as image:
        assert image.format == "PNG" and image.width == round(6.5 * 150)
        assert len(image.getcolors(2**20) or ()) > 20
    assert first.read_bytes() != other.read_bytes()


def many_methods(path: Path, level: float) -> bool:
    (section,) = found([f"method {i}" for i in range(20)], best=level)
    return plots.accuracy_against_cost(section, path)


@pytest.mark.parametrize("draw", [*PICTURES, many_methods])
def test_everything_is_inside_the_picture_and_the_legend_below_the_panels(
    tmp_path: Path, drawn: list[Any], draw: Draw
) -> None:
    draw(tmp_path / "a.png", 0.8)
    (figure,) = drawn
    figure.draw_without_rendering()
    inches = figure.get_tightbbox()
    assert inches.x0 >= 0 and inches.y0 >= 0
    assert inches.x1 <= figure.get_figwidth() and inches.y1 <= figure.get_figheight()
    for legend in figure.legends:
        top = legend.get_window_extent().y1
        assert all(axes.get_tightbbox().y0 >= top for axes in figure.axes)


def test_a_legend_takes_no_height_from_the_panels(tmp_path: Path, drawn: list[Any]) -> None:
    for draw in (cost, many_methods):
        draw(tmp_path / "a.png", 0.8)
        drawn[-1].draw_without_rendering()
    few, many = (figure.axes[0].get_window_extent().height for figure in drawn)
    assert many == pytest.approx(few, rel=0.1)


def test_points_stand_where_the_means_are_and_oracles_are_hollow(
    tmp_path: Path, drawn: list[Any]
) -> None:
    assert plots.accuracy_against_cost(found()[0], tmp_path / "a.png")
    left, right = drawn[0].axes
    points = {line.get_label(): line for line in right.lines if line.get_label()[:1] != "_"}
    assert list(points) == ["plain", "two-step", "group-dro (oracle)", "online"]
    x, y = points["online"].get_data()
    assert list(x) == [40.0] and list(y) == pytest.approx([80.0])
    assert points["group-dro (oracle)"].get_markerfacecolor() == "white"
    assert points["online"].get_markerfacecolor() != "white"
    bars = [bar for group in right.collections for bar in group.get_segments()]
    assert sorted(high - low for (_, low), (_, high) in bars) == pytest.approx([2.0] * 4)
    x_left = {line.get_label(): line.get_xdata()[0] for line in left.lines}
    assert x_left["two-step"] == 2.0
    beside = [x_left[name] for name in ("plain", "group-dro (oracle)", "online")]
    assert beside == sorted(set(beside)) and sum(beside) / 3 == pytest.approx(1.0)
    assert all(abs(place - 1) < 0.5 for place in beside)
    assert [int(tick) for tick in left.get_xticks() if 0.5 <= tick <= 2.5] == [1, 2]


def boxes(figure: Figure) -> list[Any]:
    return [text.get_window_extent() for axes in figure.axes for text in axes.texts]


def test_few_methods_are_named_beside_their_points_without_overlaps(
    tmp_path: Path, drawn: list[Any]
) -> None:
    plots.accuracy_against_cost(found(best=0.04)[0], tmp_path / "a.png")  # close together
    assert len(drawn[0].axes[0].texts) == len(drawn[0].axes[1].texts) == 4
    assert not drawn[0].legends
    names = boxes(drawn[0])
    assert all(box.count_overlaps(names) == 1 for box in names)  # itself
    for axes in drawn[0].axes:
        bars = [axes.transData.transform(b) for c in axes.collections for b in c.get_segments()]
        assert len(bars) == 4
        for text in axes.texts:
            box = text.get_window_extent()
            assert axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max)
            assert not box.count_overlaps([Bbox(bar) for bar in bars])


def test_many_methods_or_long_names_get_a_legend(tmp_path: Path, drawn: list[Any]) -> None:
    many = tuple(f"method {i}" for i in range(9))
    plots.accuracy_against_cost(found(many)[0], tmp_path / "a.png")
    long = "a method", "another method with a name that is as long as a panel is wide"
    plots.accuracy_against_cost(found(long)[0], tmp_path / "b.png")
    for figure, names in zip(drawn, (many, long), strict=True):
        assert not boxes(figure)
        assert [text.get_text() for text in figure.legends[0].get_texts()] == list(names)


def test_a_wide_range_of_seconds_is_shown_in_multiples(tmp_path: Path, drawn: list[Any]) -> None:
    plots.accuracy_against_cost(found()[0], tmp_path / "a.png")
    many = tuple(f"method {i}" for i in range(9))
    plots.accuracy_against_cost(found(many)[0], tmp_path / "b.png")
    assert [figure.axes[1].get_xscale() for figure in drawn] == ["linear", "log"]
    assert drawn[0].axes[1].get_xlim()[0] == 0


def test_ratios_are_places_in_order_and_rows_without_one_are_left_out(
    tmp_path: Path, drawn: list[Any]
) -> None:
    given = found(["online"], ["0.995", "", "0.9"])
    assert plots.accuracy_against_ratio(given, tmp_path / "a.png")
    (axes,) = drawn[0].axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["90 %", "99.5 %"]
    assert list(axes.lines[0].get_xdata()) == [0, 1]


def test_curves_are_means_with_a_band_of_one_standard_deviation(
    tmp_path: Path, drawn: list[Any]
) -> None:
    assert plots.learning_curves(curves(tmp_path, 0.4), tmp_path / "a.png")
    axes = drawn[0].axes[0]
    x, y = axes.lines[0].get_data()
    assert list(x) == [1, 2] and list(y) == pytest.approx([45.0, 90.0])
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    at_first = sorted(h for h in heights if h < 60)
    assert at_first[0] == pytest.approx(45 - 5 * 2**0.5)
    assert at_first[-1] == pytest.approx(45 + 5 * 2**0.5)


def test_detection_counts_epochs_as_evaluations_do_and_leaves_out_who_detects_nothing(
    tmp_path: Path, drawn: list[Any]
) -> None:
    given = curves(tmp_path)
    given = {"quiet": [metrics(tmp_path / "quiet.csv", 0.4, detects=False)], **given}
    assert plots.detection_curves(given, tmp_path / "a.png")
    lines = drawn[0].axes[0].lines
    assert [line.get_label() for line in lines] == ["plain", "online"]
    assert list(lines[0].get_xdata()) == [1, 2]
    assert lines[0].get_color() == figures.style(given)["plain"].colour  # as in the other pictures


def test_of_nothing_no_file_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    bare = [row for row in rows() if row["metric"] != "accuracy_unbiased"]
    sections = summarize(bare, "last")
    assert plots.accuracy_against_cost(sections[0], path) is False
    assert plots.accuracy_against_ratio(sections, path) is False
    assert plots.accuracy_against_ratio(found(ratios=[""]), path) is False
    assert plots.learning_curves(curves(tmp_path, groups=False), path) is False
    assert plots.detection_curves(curves(tmp_path, detects=False), path) is False
    assert plots.detection_curves({}, path) is False
    assert not list(tmp_path.glob("*.png"))


def test_what_is_missing_leaves_a_gap(tmp_path: Path, drawn: list[Any]) -> None:
    given = [
        row for row in rows() if (row["method"], row["metric"]) != ("plain", "seconds_training")
    ]
    given += [{**given[0], "metric": "seconds_training", "seed": "0", "value": "nan"}]
    assert plots.accuracy_against_cost(summarize(given, "last")[0], tmp_path / "a.png")
    left, right = ({line.get_label() for line in axes.lines} for axes in drawn[0].axes)
    assert left - right == {"plain"}
    assert plots.accuracy_against_cost(found(["plain"])[0], tmp_path / "one.png")


def test_more_methods_than_colours_still_look_different() -> None:
    names = [f"method {i}" for i in range(30)]
    looks = figures.style(names)
    assert list(looks) == names and len(set(looks.values())) == 30
    assert len({look.colour for look in list(looks.values())[:9]}) == 9
    assert figures.style(["a", "a", "b"]) == figures.style(["a", "b"])


@pytest.mark.parametrize(
    "content",
    ["", "a,b\n1,2\n", f"{HEADER}1,1,test\n", f"{HEADER}1,x,test,accuracy_aligned,1\n", None],
)
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "metrics.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(
        ConfigError, match=r"metrics.csv cannot be read, expected the columns step,"
    ):
        plots.learning_curves({"plain": [path]}, tmp_path / "a.png")


def test_matplotlib_is_imported_late_and_pyplot_never(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from online_debias.comparison import plots, summary
assert "matplotlib" not in sys.modules
(section,) = summary.summarize({rows()}, "last")
assert plots.accuracy_against_cost(section, Path({str(tmp_path / "a.png")!r}))
assert "matplotlib" in sys.modules
assert "matplotlib.pyplot" not in sys.modules
"""
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)
