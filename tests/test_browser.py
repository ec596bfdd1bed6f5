"""The report in a real browser: nothing is fetched, nothing complains, light and dark, narrow."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from online_debias.cli.main import main
from tests.test_report import ROOT, SCORED

pytestmark = pytest.mark.browser
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
QUIET += ["--host-resolver-rules=MAP * ~NOTFOUND"]  # whatever is asked for, nothing leaves
DARK = "--blink-settings=preferredColorScheme=0"
WAIT = 60  # seconds


class Visit(NamedTuple):
    """What happened when a page was opened.

    Attributes:
        dom: the page after it was loaded.
        console: lines that it, or the browser because of it, wrote there.
        requests: addresses that it asked for, itself left out.
    """

    dom: str
    console: list[str]
    requests: set[str]


def browse(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None, "these tests need chromium"
    profile = f"--user-data-dir={folder / 'profile'}"
    done = subprocess.run(
        [BROWSER, *QUIET, profile, *arguments],
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def visit(page: Path, folder: Path, *arguments: str) -> Visit:
    log = folder / "net.json"
    told = ["--enable-logging=stderr", "--v=0", f"--log-net-log={log}", "--dump-dom"]
    done = browse(folder, *told, *arguments, page.as_uri())
    events: list[dict[str, Any]] = json.loads(log.read_text())["events"]
    given = [event.get("params") or {} for event in events]
    # The browser's own requests have no page as their origin.
    asked = {x["url"] for x in given if x.get("initiator", "not an origin") != "not an origin"}
    console = [line for line in done.stderr.splitlines() if ":CONSOLE:" in line]
    return Visit(done.stdout, console, asked - {page.as_uri()})


def corner(page: Path, folder: Path, *arguments: str) -> int:
    """The brightness of the page's corner, 0 to 255."""
    picture = folder / "picture.png"
    browse(folder, "--window-size=900,700", f"--screenshot={picture}", *arguments, page.as_uri())
    with Image.open(picture) as shown:
        assert shown.size == (900, 700)
        return sum(shown.convert("RGB").getpixel((2, 2))) // 3  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report on two small runs."""
    folder = tmp_path_factory.mktemp("browser")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(ROOT))
        (folder / "scored.yaml").write_text(SCORED)
        shapes = ["train", "--epochs", "2", "--batch_size", "40", "--data", "tests.own.Shapes"]
        assert main([*shapes, "--config", "scored.yaml", "--run", "scored"]) == 0
        assert main([*shapes, "--method", "plain", "--run", "plain"]) == 0
        assert main(["report", "scored", "--against", "plain"]) == 0
    return folder / "scored" / "report.html"


def test_the_page_asks_for_nothing_and_complains_of_nothing(page: Path, tmp_path: Path) -> None:
    for mode in ([], [DARK]):
        seen = visit(page, tmp_path, *mode)
        assert seen.requests == set() and seen.console == []
        assert re.search(r"<h1[^>]*>custom: what the run found</h1>", seen.dom)
        assert seen.dom.count("<polyline") > 10 and seen.dom.rstrip().endswith("</html>")


def test_a_page_that_fetches_and_complains_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<img src='http://example.invalid/x.png'><script>console.error('oh')</script>")
    seen = visit(page, tmp_path)
    assert seen.requests == {"http://example.invalid/x.png"}
    assert any('"oh"' in line for line in seen.console)


def test_the_page_does_not_let_anything_be_fetched(page: Path, tmp_path: Path) -> None:
    """Should something ever slip in: the browser is told to refuse it."""
    spoiled = tmp_path / "page.html"
    added = "<img src='http://example.invalid/x.png'><script>document.title='ran'</script></body>"
    spoiled.write_text(page.read_text().replace("</body>", added))
    seen = visit(spoiled, tmp_path)
    assert seen.requests == set() and "<title>ran" not in seen.dom
    assert len(seen.console) >= 2 and all("Content Security Policy" in x for x in seen.console)


def test_the_page_is_light_or_dark_as_the_reader_likes(page: Path, tmp_path: Path) -> None:
    assert corner(page, tmp_path) > 230
    assert corner(page, tmp_path, DARK) < 40


@pytest.mark.parametrize("width", [320, 400, 1280])
def test_the_page_never_scrolls_sideways(width: int, page: Path, tmp_path: Path) -> None:
    """In a frame, because a window of the browser has a least width."""
    assert sideways(page, width, tmp_path) == 0


def test_a_page_that_is_too_wide_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<!DOCTYPE html><body style='margin: 0'><p style='width: 500px'>wide")
    assert sideways(page, 400, tmp_path) == 100


def sideways(page: Path, width: int, folder: Path) -> int:
    frame = folder / "frame.html"
    frame.write_text(
        f"<!DOCTYPE html><iframe id=f width={width} height=700 style='border: 0' "
        f"src='{page.as_uri()}'></iframe><script>document.getElementById('f').onload = e => {{"
        "const root = e.target.contentDocument.documentElement;"
        "document.title = `${root.clientWidth} ${root.scrollWidth}`}</script>"
    )
    done = browse(folder, "--allow-file-access-from-files", "--dump-dom", frame.as_uri())
    found = re.search(r"<title>(\d+) (\d+)</title>", done.stdout)
    assert found is not None, done.stdout[:300]
    assert int(found[1]) == width
    return int(found[2]) - width
