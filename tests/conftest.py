"""What all tests share: Triton's interpreter where there is no GPU, one hook that skips and counts `gpu` tests, and one
that skips what there is no time for."""

import functools
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
import torch.fx
import typer
from hypothesis import settings

from predict.command_line import run_command_line
from tests.browser import why_no_browser

settings.register_profile("tests", deadline=None)  # a loaded machine is no error
settings.load_profile("tests")

# Widths of output must not depend on where the tests run: readline, which pytest loads, sets COLUMNS for children.
os.environ.pop("COLUMNS", None)
os.unsetenv("COLUMNS")

HAS_CUDA = torch.cuda.is_available()
if not HAS_CUDA:
    # Must stand before any kernel module is imported: Triton decides at decoration time.
    os.environ["TRITON_INTERPRET"] = "1"

_BEGAN_S = pytest.StashKey[float]()
_NO_GPU = "needs a CUDA device"


@pytest.fixture
def device() -> torch.device:
    """Where kernels run: a real GPU, or the CPU through Triton's interpreter, if that works here."""
    if not HAS_CUDA and (reason := _why_nothing_is_interpreted()):
        pytest.skip(reason)
    return torch.device("cuda" if HAS_CUDA else "cpu")


@functools.cache
def _why_nothing_is_interpreted() -> str | None:
    """Why Triton's interpreter cannot run kernels, or None: before 3.7 it makes numbers of arrays that hold one, which
    NumPy refuses from 2.4 on."""
    import triton  # noqa: PLC0415  (after the interpreter is chosen)

    if tuple(int(part) for part in triton.__version__.split(".")[:2]) >= (3, 7):
        return None
    try:
        with warnings.catch_warnings(action="ignore"):  # which is what it still says to NumPy 2.3
            int(np.zeros(1))
    except TypeError:
        pair = f"Triton {triton.__version__} and NumPy {np.__version__}"
        return f"the interpreter of {pair} does not work: install numpy<2.4"
    return None


Refusal = Callable[..., str]


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refusal:
    """Run a command in this process as `python -m PACKAGE` does; it must refuse its arguments with exit status 2, one
    line on stderr, which is returned, and nothing on stdout."""

    def refuse(app: typer.Typer, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["program", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            run_command_line(app, "python -m program")
        written = capsys.readouterr()
        assert (stop.value.code, written.out) == (2, "")
        assert written.err.startswith("error: ")
        assert len(written.err.splitlines()) == 1
        return written.err

    return refuse


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.fx.GraphModule]]:
    """Captured graphs, run as they are: what the compiler would be given."""
    from kernels.pytorch import compiled  # noqa: PLC0415  (after the interpreter is chosen)

    captured = []

    def backend(graph: torch.fx.GraphModule, _: object, **__: object) -> Callable[..., object]:
        captured.append(graph)
        return graph.forward

    monkeypatch.setattr(compiled, "_BACKEND", backend)
    compiled._compile.cache_clear()
    yield captured
    compiled._compile.cache_clear()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--time-limit-s", type=float, help="Skip what would begin after this many seconds.")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_BEGAN_S] = time.monotonic()


def pytest_runtest_setup(item: pytest.Item) -> None:
    limit_s = item.config.getoption("time_limit_s")
    if limit_s is not None and time.monotonic() - item.config.stash[_BEGAN_S] > limit_s:
        pytest.skip(f"the time limit of {limit_s:g} s was reached")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not HAS_CUDA:
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason=_NO_GPU))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """With `-n auto` one process has a GPU to itself; without one there is a process for each core."""
    return 0 if HAS_CUDA else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # Counted from the reports: with several processes, only these reach the one that prints.
    reports = terminalreporter.getreports("skipped")
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in reports)
    if reasons[_NO_GPU]:
        terminalreporter.write_line(
            f"{reasons[_NO_GPU]} gpu tests skipped: no CUDA device. Run them with `pytest -m gpu` on one."
        )
    if (reason := why_no_browser()) and reasons[reason]:
        terminalreporter.write_line(f"{reasons[reason]} tests of pages skipped: {reason}")
    if not HAS_CUDA and (reason := _why_nothing_is_interpreted()):
        terminalreporter.write_line(f"{reasons[reason]} tests of kernels skipped: {reason}")
