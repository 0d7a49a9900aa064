"""A browser for tests of report.html, and pages that note all that they should not do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from reports.report.page import PAGE, write_page
from reports.run.load import Run
from tests.browser import CHROMIUM, why_no_browser

DRAWN = "[...document.querySelectorAll('[data-panel]')].every((chart) => chart.dataset.drawn)"


@dataclass
class Opened:
    """A page in the browser, and what went wrong in it."""

    page: Any
    faults: list[str] = field(default_factory=list)  # errors and warnings of the console, uncaught errors, dialogs
    requests: list[str] = field(default_factory=list)  # beside the file itself

    def texts(self, selector: str) -> list[str]:
        """The text of every element that is shown."""
        return [each.inner_text() for each in self.page.query_selector_all(selector) if each.is_visible()]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if reason := why_no_browser():
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  (where it is installed)

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield started
        started.close()


Open = Callable[..., Opened]


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Write a run's report.html and open it, its figures drawn; any options are those of the browser's context."""
    contexts = []

    def open_one(run: Run, **options: Any) -> Opened:
        assert write_page(run, tmp_path) == ""
        url = (tmp_path / PAGE).as_uri()
        context = browser.new_context(**options)
        contexts.append(context)
        opened = Opened(context.new_page())
        page = opened.page
        page.on("console", lambda message: opened.faults.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: opened.faults.append(f"uncaught: {error}"))
        page.on("dialog", lambda dialog: (opened.faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: opened.requests.append(request.url) if request.url != url else None)
        page.route(lambda address: address != url, lambda route: route.abort())
        page.goto(url)
        if options.get("java_script_enabled", True):
            page.wait_for_function(DRAWN)
        return opened

    yield open_one
    for context in contexts:
        context.close()
