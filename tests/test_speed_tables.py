"""What is measured of speed and memory is told apart, and shown a line a size."""

from __future__ import annotations

import pytest

from online_debias.detectors import BestViews
from tests.conftest import script


def test_a_line_for_each_size() -> None:
    growth = script("speed_tables").growth
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


def test_memory_is_that_of_all_tensors(capsys: pytest.CaptureFixture[str]) -> None:
    scale = script("scale")
    views = BestViews(grids=(1, 2), scan_trees=1, n_trees=4, scan=512, fold=128)
    rows = {row[4]: float(row[5]) for row in scale.forest("views", views, 3, 8)}
    counted = sum(x.numel() * x.element_size() for x in views.state_dict().values()
                  if hasattr(x, "numel"))  # fmt: skip
    assert scale.held(views) > counted
    assert rows["held, MB"] == pytest.approx(scale.held(views) / 1e6, rel=0.01)
    assert "milliseconds a step" in capsys.readouterr().out
    assert all(float(row[5]) > 0 for row in scale.samples(1000))
