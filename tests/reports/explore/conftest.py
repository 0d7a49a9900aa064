"""A real server of the page, with a run and a table to draw; pages in a browser that note what they should not do."""

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pandas as pd
import pytest

from tests.browser import CHROMIUM, why_no_browser
from tests.installed import ROOT

RUN = ROOT / "reports/data/cpu-amd-epyc/2026-11-30-full"
LONG_S = 60.0  # a limit that a loaded machine does not reach
ROWS = (1, 4, 16, 64, 256, 1024, 4096)  # m of the measured products


# What Vega says of charts that begin without rows, or that are as high as their bars.
KNOWN = re.compile(
    r'warning:  ?WARN (Infinite extent for field "[xy]"|Dropping "fit-y" because spec has discrete height)'
)
REFUSED = re.compile(r"error: Failed to load resource: the server responded with a status of 4\d\d ")
# The section's answer is that to the address: to what its controls, and those that all sections share, say.
ANSWERED = """(name) => {
  const { shared, sections } = JSON.parse(document.getElementById("page").textContent);
  const now = new URLSearchParams(location.search);
  const asked = new URLSearchParams();
  for (const each of [...shared, ...sections[name], "config", "file"]) {
    if (now.has(each)) asked.set(each, now.getAll(each).at(-1));
  }
  return document.getElementById(name).dataset.answered === (asked.toString() || "-");
}"""
SHOWN = """(name) => {
  const section = document.getElementById(name);
  const texts = (selector) => [...section.querySelectorAll(selector)].map((each) => each.textContent);
  const looks = ["d", "transform", "x2", "y2", "fill", "stroke"];
  const mark = (each) => [...looks.map((name) => each.getAttribute(name)), each.textContent].join(" ");
  const drawn = (svg) => [...svg.querySelectorAll(".role-mark > *")].map(mark).sort();
  return {
    error: section.querySelector(".error").hidden ? "" : section.querySelector(".error").textContent,
    says: texts(".says p"),
    numbers: [...section.querySelectorAll(".numbers tr[data-key]")].map((row) => [
      row.dataset.key, row.querySelector("td").textContent, row.dataset.value, Number(row.dataset.command),
    ]),
    commands: section.querySelector(".commands pre").textContent.split("\\n"),
    grids: texts(".grids td"),
    charts: [...section.querySelectorAll("figure:not(.is-empty) svg")].map(drawn),
  };
}"""


@dataclass
class Opened:
    """A page in the browser, what it asked for, and what went wrong in it."""

    page: Any
    address: str
    is_refused: bool = False  # some requests of the test are refused, which the console tells
    faults: list[str] = field(default_factory=list)  # errors and warnings of the console, uncaught errors, dialogs
    requests: list[str] = field(default_factory=list)

    def open(self, query: str = "") -> None:
        """Go to an address of the page."""
        self.page.goto(f"{self.address}?{query}" if query else self.address)

    def see(self, section: str) -> dict[str, Any]:
        """Scroll to a section, as a link does; what it shows when it is answered."""
        self.page.locator(f"#{section}").evaluate("(each) => each.scrollIntoView()")
        return self.shown(section)

    def shown(self, section: str) -> dict[str, Any]:
        """What a section in view shows as the answer to the address: sentences, numbers, commands, tables, charts."""
        self.page.wait_for_function(ANSWERED, arg=section)
        found: dict[str, Any] = self.page.evaluate(SHOWN, section)
        return found

    def control(self, name: str, place: str = "shared") -> Any:
        """What of a control can be set: its slider if it has one, else its list or text."""
        form = self.page.locator("form.shared" if place == "shared" else f"#{place} form.own")
        control = form.locator(f'[data-control="{name}"]')
        slider = control.locator('input[type="range"]')
        return slider if slider.count() else control.locator("select, input")

    def query(self) -> dict[str, str]:
        """The parameters of the address."""
        return dict(parse_qsl(urlsplit(self.page.url).query, keep_blank_values=True))

    def surprises(self) -> list[str]:
        """Faults that are no part of the test."""
        known = [KNOWN, REFUSED] if self.is_refused else [KNOWN]
        return [fault for fault in self.faults if not any(each.match(fault) for each in known)]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Times of llama-3-8b's QKV product on an H100, as others publish theirs."""
    path: Path = tmp_path_factory.mktemp("tables") / "h100_gemm.parquet"
    frame = pd.DataFrame({"m": ROWS, "n": 6144, "k": 4096, "latency": [0.03 + rows / 8e3 for rows in ROWS]})
    common = {"framework": "VLLM", "version": "1", "device": "NVIDIA H100 80GB HBM3", "kernel_source": "some kernel"}
    frame.assign(**common, op_name="gemm", gemm_dtype="bfloat16").to_parquet(path)
    return path


@pytest.fixture(scope="module")
def address(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the page of a server with real answers is."""
    log = tmp_path_factory.mktemp("server") / "stderr"
    words = [sys.executable, "-m", "reports", "explore", "--port", "0", "--run", str(RUN), "--tables", str(table)]
    with log.open("w") as err:
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=err, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+/", line)
    assert found, log.read_text()
    yield found[0]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LONG_S)
    assert (process.returncode, log.read_text()) == (0, "")  # no traceback: nothing was a fault of ours


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if reason := why_no_browser():
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  (where it is installed)

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


Open = Callable[..., Opened]


@pytest.fixture
def open_page(browser: Any, address: str) -> Iterator[Open]:
    """Open the page in a context of its own, whose options may be given."""
    pages: list[Opened] = []
    with contextlib.ExitStack() as stack:

        def open_one(query: str = "", *, is_refused: bool = False, **options: Any) -> Opened:
            context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
            stack.callback(context.close)
            context.set_default_timeout(LONG_S * 1e3)
            opened = Opened(context.new_page(), address, is_refused)
            pages.append(opened)
            page = opened.page
            page.on("console", lambda message: opened.faults.append(f"{message.type}: {message.text}"))
            page.on("pageerror", lambda error: opened.faults.append(f"uncaught: {error}"))
            page.on("dialog", lambda dialog: (opened.faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
            page.on("request", lambda request: opened.requests.append(request.url))
            opened.open(query)
            return opened

        yield open_one
    for opened in pages:
        assert opened.surprises() == []
        assert [url for url in opened.requests if not url.startswith(address)] == []  # the page asks nobody else
