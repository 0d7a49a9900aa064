"""`python -m tests.reports.explore.pictures`: a picture of each section, as docs/explore.md shows them."""

import re
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser import CHROMIUM

ROOT = Path(__file__).resolve().parents[3]
FIGURES = ROOT / "docs" / "figures"
RUN = ROOT / "reports" / "data" / "cpu-amd-epyc" / "2026-11-30-full"
WIDTH_PX, TALLEST_PX = 1080, 1000
SHOWN = {
    "time": "?batch=16&context=256",
    "flop": "?seq=8192&batch=1",
    "backward": "?batch=8&step=5",
    "memory": "?model=llama-3-8b&use=train&recompute=flash&batch=4",
    "phases": "?batch=8&seq=4096",
    "cache": "?model=llama-3-8b&batch=16&context=8192",
    "speculation": "?model=llama-3-70b&gpus=4&draft=llama-3.2-1b&batch=4",
    "batching": "?model=llama-3-8b&batch=64&gpu=h200-sxm",
    "parallelism": "?model=llama-3-70b&gpus=8&batch=16",
    "dollars": "?model=llama-3-70b&gpus=4&batch=32",
    "answer": "?model=llama-3-70b&gpus=4&batch=32",
}
POINTS = "?points=run+AMD+EPYC"  # of the committed run
STILL = ".shared { position: static !important; } section { border-top: 0 !important; }"


def take(page, address, section):
    page.goto(f"{address}{SHOWN[section]}&points=none#{section}")
    page.add_style_tag(content=STILL)
    page.wait_for_selector(f"#{section}[data-answered]")
    page.wait_for_function(
        "name => [...document.querySelectorAll(`#${name} figure:not(.is-empty)`)].every((each) => each.dataset.drawn)",
        arg=section,
    )
    top = page.locator(f"#{section}").bounding_box()
    end = page.locator(f"#{section} .panels").bounding_box()
    scrolled = page.evaluate("scrollY")
    height = TALLEST_PX if section == "answer" else min(end["y"] + end["height"] - top["y"], TALLEST_PX)
    clip = {"x": 0, "y": top["y"] + scrolled + 16, "width": WIDTH_PX, "height": height - 16}
    page.screenshot(path=FIGURES / f"explore-{section}.png", full_page=True, clip=clip)


def take_points(page, address):
    page.goto(f"{address}{POINTS}#phases")
    page.add_style_tag(content=STILL)
    figure = page.locator("[data-chart=kernel_phases]")
    page.wait_for_selector("[data-chart=kernel_phases][data-drawn]")
    figure.screenshot(path=FIGURES / "explore-points.png")


def main():
    words = [sys.executable, "-m", "reports", "explore", "--port", "0", "--run", str(RUN)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as drive:
        address = re.search(r"http://\S+", server.stdout.readline())[0]
        browser = drive.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH_PX, "height": 1400})
        for section in SHOWN:
            take(page, address, section)
        take_points(page, address)
        browser.close()
        server.terminate()


if __name__ == "__main__":
    main()
