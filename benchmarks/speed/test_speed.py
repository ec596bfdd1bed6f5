"""What is measured of speed and memory is told apart, and shown a line a size."""

from __future__ import annotations

import csv
import itertools
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import interleaved_timing
import limits
import loading
import memory
import pytest
import ranks
import results_file
import scale
import speed_tables
import step_cost
import torch

from online_debias.detectors import BestViews
from tests.conftest import make_images

pytestmark = pytest.mark.slow


def test_a_line_for_each_size() -> None:
    growth = speed_tables.growth
    rows = [
        {"what": what, "samples": n, "classes": "10", "features": "", "measure": name, "value": x}
        for what, n, name, x in (
            ("training set", "100", "draw", "3"),
            ("training set", "100", "propose", "2"),
            ("training set", "1000", "draw", "4"),
            ("training set", "1000", "propose", "1"),
            ("50 trees", "", "held", "7"),
        )
    ]
    assert growth("training", rows=rows).splitlines()[2:] == [
        "| training set | 100 | 10 | 3 | 2 |",
        "| training set | 1000 | 10 | 4 | 1 |",
    ]
    assert growth("trees", "Views", rows=rows).splitlines() == [
        "| what | classes | held |", "|---|---|---|", "| 50 trees | 10 | 7 |",
    ]  # fmt: skip


def test_detectors_stand_beside_river_and_beside_each_other() -> None:
    size = {"trees": "25", "height": "8", "window": "250", "width": "128", "batch": "64"}
    rows = [
        {"detector": name, **size, "width": width, "samples_per_second": speed,
         "ratio_to_river": ratio, "torch": "2"}
        for name, width, speed, ratio in (
            ("river", "128", "10", "1.0"), ("mass", "128", "200", "20.0"),
            ("mass, compiled", "128", "400", "40.0"), ("other", "128", "70", "7.0"),
            ("river", "32", "20", "1.0"), ("mass", "32", "300", "15.0"),
            ("mass, compiled", "32", "600", "30.0"),
        )
    ]  # fmt: skip
    assert speed_tables.beside_river(rows).splitlines()[2:] == [
        "| mass | 25 | 8 | 250 | 128 | 64 | 10 | 20.0 | 40.0 |",
        "| mass | 25 | 8 | 250 | 32 | 64 | 20 | 15.0 | 30.0 |",
    ]
    assert speed_tables.implementations(rows).splitlines() == [
        "| detector | samples per second | ratio to river |", "|---|---|---|",
        "| river | 10 | 1.0 |", "| mass | 200 | 20.0 |", "| mass, compiled | 400 | 40.0 |",
        "| other | 70 | 7.0 |",
    ]  # fmt: skip


def test_a_ratio_is_of_sides_in_the_same_round() -> None:
    clock = iter([1.0, 2.0, 10.0, 30.0, 5.0, 5.0])
    took = interleaved_timing.take(
        {"one": lambda: next(clock), "other": lambda: next(clock)}, rounds=3
    )
    assert took == [{"one": 1, "other": 2}, {"one": 10, "other": 30}, {"one": 5, "other": 5}]
    assert (
        interleaved_timing.median(took, "one") == 5
        and interleaved_timing.median(took, "other") == 5
    )
    assert interleaved_timing.ratio(took, "other", "one") == 2  # of the rounds' 2, 3 and 1


def test_memory_is_that_of_all_tensors(capsys: pytest.CaptureFixture[str]) -> None:
    views = BestViews(grids=(1, 2), scan_trees=1, n_trees=4, scan=512, fold=128)
    rows = {row[4]: float(row[5]) for row in scale.forest("views", views, 3, 8)}
    counted = sum(x.numel() * x.element_size() for x in views.state_dict().values()
                  if hasattr(x, "numel"))  # fmt: skip
    assert scale.held(views) > counted
    assert rows["held, MB"] == pytest.approx(scale.held(views) / 1e6, rel=0.01)
    assert "milliseconds a step" in capsys.readouterr().out
    assert all(float(row[5]) > 0 for row in scale.samples(1000))


def test_loaders_go_through_every_image_and_evaluations_through_every_group() -> None:
    images = loading.repeated(make_images(48), 60)
    assert len(images) == 60 and torch.equal(images.images[48:], images.images[:12])
    logits, report = (work() for work in loading.evaluations(images).values())
    assert len(logits) == 60 and sum(n for _, n in report.groups.values()) == 60
    varied = loading.OneByOne(images.images)
    assert len(varied) == 60 and varied[0].shape == (3, 12, 12) and varied[0].max() <= 1


def test_sides_that_take_turns_have_a_row_each(capsys: pytest.CaptureFixture[str]) -> None:
    done: list[str] = []
    sides = {name: partial(done.append, name) for name in ("one", "other")}
    rows = loading.compared(sides, rounds=2, images=10, name="microseconds an image")
    assert done == ["one", "other"] * 3  # a first turn that does not count, then two
    assert [row[:2] for row in rows] == [[name, "microseconds an image"] for name in sides]
    assert rows[0][3] == "1.00" and "other" in capsys.readouterr().out


def test_a_process_starts_anew_with_one_heap_and_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[str, list[str], dict[str, str]]] = []
    monkeypatch.setattr("os.execve", lambda *given: started.append(given))
    for name in interleaved_timing.ONE_HEAP:
        monkeypatch.delenv(name, raising=False)
    interleaved_timing.one_heap()
    ((program, line, environment),) = started
    assert program == sys.executable and line == sys.orig_argv
    assert environment == os.environ | interleaved_timing.ONE_HEAP
    for name, value in interleaved_timing.ONE_HEAP.items():
        monkeypatch.setenv(name, value)
    interleaved_timing.one_heap()
    assert len(started) == 1


def test_loops_take_turns_a_step_at_a_time() -> None:
    done: list[str] = []

    def loop(name: str, pause: Callable[[], None]) -> None:
        done.append(f"{name} is set up")
        for _ in range(2):  # epochs
            for batch in interleaved_timing.Paused([1, 2], pause):
                done.append(f"{name} {batch}")

    sides = {name: interleaved_timing.steps_of(partial(loop, name)) for name in ("one", "other")}
    clock = partial(next, itertools.count())
    took = interleaved_timing.interleave(sides, steps=2, rounds=2, clock=clock)
    by_turns = ["one 1", "other 1", "one 2", "other 2"]
    assert [step for step in done if "set up" not in step] == by_turns * 2
    assert took == [{"one": 2, "other": 2}] * 2  # ticks of the clock
    with pytest.raises(StopIteration):
        next(sides["one"])


def test_a_loop_that_fails_says_so_where_it_is_stepped() -> None:
    def at_once(pause: Callable[[], None]) -> None:
        raise ValueError("at once")

    def later(pause: Callable[[], None]) -> None:
        for _ in interleaved_timing.Paused([1], pause):
            raise ValueError("later")

    for loop in (at_once, later):
        with pytest.raises(ValueError, match=loop.__name__.replace("_", " ")):
            next(interleaved_timing.steps_of(loop))


def test_a_run_on_ranks_says_what_a_step_took(capsys: pytest.CaptureFixture[str]) -> None:
    method, n_ranks, rows, each = ranks.row("plain", ranks=1, epochs=1)
    assert (method, n_ranks, rows) == ("plain", 1, 128) and float(each) > 1
    assert capsys.readouterr().out.startswith("plain 1 128 ")


def test_settings_that_are_not_measured_anew_keep_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results_file, "RESULTS", tmp_path)
    small, large = step_cost.SETTINGS
    step_cost.write("steps", ["setting", "loop"], [[large, "old"], [small, "old"]])
    step_cost.write("steps", ["setting", "loop"], [[small, "new"], [small, "newer"]])
    with (tmp_path / "steps.csv").open(newline="") as written:
        assert list(csv.reader(written)) == [
            ["setting", "loop"], [small, "new"], [small, "newer"], [large, "old"],
        ]  # fmt: skip


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system says it on Linux only")
def test_memory_is_counted_from_when_the_data_is_there() -> None:
    """In a process of its own: less than making the data took, more than Python and torch."""
    assert 100 < memory.apart(memory.SETTINGS[0], "by hand") < 4000


def test_every_budget_is_put_on_one_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = limits.table(results_file.RESULTS).splitlines()[2:]
    assert len(lines) == len(limits.BUDGETS)
    fast = next(b for b in limits.BUDGETS if b.bound == "at least" and "compiled" in b.what)
    cheap = next(b for b in limits.BUDGETS if b.bound == "at most")
    for budget, kept in (
        (fast._replace(value=1e9), "**no**"), (fast._replace(value=0.0), "yes"),
        (cheap._replace(value=0.0), "**no**"), (cheap._replace(value=1e9), "yes"),
    ):  # fmt: skip
        monkeypatch.setattr(limits, "BUDGETS", (budget,))
        assert limits.table(results_file.RESULTS).splitlines()[2].endswith(f"| {kept} |")
