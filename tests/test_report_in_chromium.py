"""The report in a browser: no message on the console, nothing wider than the screen, all pictures are drawn."""

from __future__ import annotations

import json
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mcrpy_diffusion.evaluation.evaluate import evaluate
from mcrpy_diffusion.evaluation.pairs import find_pairs
from mcrpy_diffusion.reports.report import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=20000 --dump-dom"
).split()
# A screen is a frame of its width: windows of the browser itself have a least width.
HOST = """<!DOCTYPE html><title>host</title><pre></pre><script>
const frame = document.createElement("iframe");
frame.width = WIDTH; frame.height = 900; frame.style.border = 0;
frame.onload = () => {
  const page = frame.contentDocument;
  for (const details of page.querySelectorAll("details")) details.open = true;
  const wide = [...page.querySelectorAll("body *")].filter((e) => {
    const box = e.getBoundingClientRect();
    return box.right > WIDTH + 0.5 && !e.closest("thead");
  });
  const images = [...page.images];
  const sizes = [...page.querySelectorAll("main *")].map((e) => parseFloat(getComputedStyle(e).fontSize));
  document.querySelector("pre").textContent = JSON.stringify({
    width: page.documentElement.scrollWidth,
    wide: wide.map((e) => e.outerHTML.slice(0, 80)),
    images: images.length,
    broken: images.filter((i) => !i.complete || i.naturalWidth === 0).length,
    smallest_text: Math.min(...sizes),
  });
};
frame.srcdoc = PAGE;
document.body.append(frame);
</script>"""


def grains(n: int, *, seed: int) -> np.ndarray:
    """Brick walls of random bricks: phase 1 between boundaries of phase 0."""
    rng = np.random.default_rng(seed)
    images = np.ones((n, 32, 32), dtype=np.uint8)
    for image in images:
        image[rng.choice(32, 4, replace=False)] = 0
        image[:, rng.choice(32, 4, replace=False)] = 0
    return images


def opened(page: str, width: int, folder: Path) -> tuple[dict[str, Any], str]:
    """Open a page in a browser; return what is found there, and the messages on the console."""
    host = folder / f"host_{width}.html"
    text = json.dumps(page).replace("</", "<\\/")
    host.write_text(HOST.replace("WIDTH", str(width)).replace("PAGE", text), encoding="utf-8")
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={folder / f'profile_{width}'}", host.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = unescape(done.stdout.split("<pre>")[1].split("</pre>")[0])
    return json.loads(found), "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    if BROWSER is None:
        pytest.skip("no Chromium here")
    training, generated = grains(40, seed=0), grains(20, seed=1)
    generated[3] = np.roll(training[7], (4, 9), axis=(0, 1))
    metrics = evaluate(training, generated, n_phases=2, periodic=True, training=training, boundary_phase=0)
    files = write_report(
        tmp_path_factory.mktemp("report"),
        name="bricks_with_a_name_that_is_long_and_has_no_place_to_break_" * 2,
        metrics=metrics,
        original=training,
        generated=generated,
        settings={"original": "/a/folder/far/down/" * 8, "sampling": {"seed": 5}},
        seconds={"evaluation": 1.0},
        pairs=find_pairs(metrics.nearest_training_image.closest_pairs, generated, training=training),
    )
    return files[0].read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [400, 1280])
def test_page_fits_the_screen_and_says_nothing_on_the_console(page: str, width: int, tmp_path: Path) -> None:
    found, console = opened(page, width, tmp_path)
    assert console == ""
    assert found["wide"] == []
    assert found["width"] <= width
    assert found["broken"] == 0
    assert found["images"] == 32 + 3 * 6 + 2 + 2 + 1  # structures, pairs, curves, grains, distances
    assert found["smallest_text"] >= 12


def test_what_does_not_fit_is_seen(page: str, tmp_path: Path) -> None:
    wrong = page.replace("<main>", '<main><p style="width: 500px">x</p><img src="data:image/png;base64,x" alt="x">')
    wrong = wrong.replace("</main>", "<script>console.error('heard')</script></main>")
    found, console = opened(wrong, 400, tmp_path)
    assert found["wide"]
    assert found["broken"] == 1
    assert "heard" in console
