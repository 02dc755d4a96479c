"""Pages in a real browser: if these fail, a reader sees an empty plot or an error, or the page calls home."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.experiments.conftest import Run
from tests.experiments.report.conftest import points, study

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
DRIVER = Path(__file__).with_name("drive.js")
# A window is never narrower than 500 pixels; a frame is. What the page has seen, it says to the frame's page.
FRAME = """<!doctype html><meta name="color-scheme" content="light dark">
<iframe src="{page}" style="width:{width}px;height:2000px;border:0"></iframe><pre id="seen"></pre>
<script>
addEventListener("message", (event) => {{ document.getElementById("seen").textContent = event.data; }});
</script>"""
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here (Debian: apt-get install chromium)")


def opened(page: Path, width: int = 1400, dark: bool = False) -> dict[str, Any]:
    """Open a page in a frame so wide and use it as `drive.js` does; what it saw, and the browser's complaints."""
    assert BROWSER is not None
    driven, frame = page.with_name("driven.html"), page.with_name("frame.html")
    driven.write_text(page.read_text().replace("</body>", f"<script>{DRIVER.read_text()}</script></body>"))
    frame.write_text(FRAME.format(page=driven.name, width=width))
    done = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
            *("--enable-logging=stderr", "--virtual-time-budget=4000", "--window-size=1500,2100"),
            *(["--blink-settings=preferredColorScheme=0"] if dark else []),
            *(f"--user-data-dir={page.parent / 'browser'}", "--dump-dom", frame.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert found is not None, complaints
    return json.loads(html.unescape(found[1])) | {"complaints": complaints}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


def unharmed(seen: dict[str, Any], width: int = 1400) -> None:
    """No error, nothing loaded, nothing wider than the window, no empty plot, three themes of which two differ."""
    assert seen["complaints"] == []
    assert seen["resources"] == []
    assert seen["width"] == width
    assert seen["tooWide"] <= 0
    assert seen["empty"] == []
    assert seen["widerThanTheirBox"] == []
    light, dark, system = seen["papers"]
    assert light != dark
    assert system in (light, dark)


@pytest.mark.parametrize(("width", "dark"), [(1400, False), (400, True)])
def test_an_experiment(smoe: Run, a_run: Path, folder: Path, width: int, dark: bool) -> None:
    page = folder / f"run-{width}.html"
    assert smoe("report", str(a_run), "--out", str(page))[0] == 0
    seen = opened(page, width, dark)
    unharmed(seen, width)
    assert seen["papers"][2] == seen["papers"][1 if dark else 0]
    billed = [float(value) for value in seen["ascending"]]
    assert billed == sorted(billed)
    assert seen["descending"] == seen["ascending"][::-1]
    assert seen["sorted"] == "descending"
    label, is_drawn = seen["axis"]
    assert is_drawn, label
    assert "method: " in seen["read"]
    assert seen["tip"]
    assert seen["tipGone"]
    before, after, pressed = seen["hidden"]
    assert 0 < after < before
    assert pressed == "false"
    whole, near, again = seen["zoom"]
    assert 0 < near < whole == again


def test_a_sweep(smoe: Run, folder: Path) -> None:
    page = folder / "sweep.html"
    assert smoe("report", str(points(folder / "sweep")), "--out", str(page))[0] == 0
    seen = opened(page)
    unharmed(seen)
    tokens = [int(value.replace(",", "")) for value in seen["ascending"]]
    assert tokens == [256] * 4 + [1024] * 4
    assert seen["all"] == 7
    assert seen["filtered"] == ["1024"] * 4
    assert seen["count"] == "4 of 8 rows"
    assert seen["filteredMarks"] == 3


@pytest.mark.parametrize("width", [1400, 400])
def test_two_runs_and_a_study(smoe: Run, a_run: Path, a_larger_run: Path, folder: Path, width: int) -> None:
    page = folder / f"two-{width}.html"
    assert smoe("compare", str(a_run), str(a_larger_run), "--out", str(page))[0] == 0
    unharmed(opened(page, width), width)
    tables = folder / f"study-{width}.html"
    assert smoe("report", str(study(folder / f"study-{width}")), "--out", str(tables))[0] == 0
    unharmed(opened(tables, width), width)
