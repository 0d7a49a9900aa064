"""What a GPU is needed for, in one go and the most telling first: does the harness work, the records, longer tests.

The suite checks every kernel against fp64 before it times it, so that those tests of kernels which compile for minutes
are left to a run of their own.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

from predict.errors import BadRun
from predict.units import MIB, binary_bytes

SMOKE_TESTS = ("tests/test_gpu.py",)  # those marked smoke
LONG_TESTS = ("tests/test_gpu.py", "tests/predict/test_peak_memory.py", "tests/bench/test_tune.py")  # the others
SMOKE_LIMIT_S = 60.0
DOCTOR_LIMIT_S = 60.0
REPORT_RESERVE_S = 30.0  # for the last case and the figures
LONG_LEAST_S = 60.0  # less is spent on collecting the tests
GRACE_S = 20.0  # for the test that runs when their time is up
LEAST_LIMIT_S = SMOKE_LIMIT_S + DOCTOR_LIMIT_S + 3 * REPORT_RESERVE_S  # less leaves the suite no time at all
MOST_FILES = 8
MOST_BYTES = 16 * MIB


def collect(out: Path, *, gpu: str | None, time_limit_s: float) -> bool:
    """Write evidence.txt, and the standard suite's records and report, into `out`; True where nothing failed.

    Each step is the command that a person would type, in a process of its own; what it prints is copied to
    evidence.txt. Raises BadRun where `out` holds something already: found after the tests, it would have cost minutes.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadRun(f"{out} is not an empty folder; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    end_s = time.monotonic() + time_limit_s
    named = [] if gpu is None else ["--gpu", gpu]
    bench = [sys.executable, "-m", "bench"]
    with (out / "evidence.txt").open("w", encoding="utf-8") as log:
        passed = _step(_tests("gpu and smoke", *SMOKE_TESTS), log, limit_s=SMOKE_LIMIT_S)
        passed &= _step([*bench, "doctor", *named], log, limit_s=DOCTOR_LIMIT_S)
        left_s = end_s - time.monotonic()
        # Fitting takes no GPU, and its file would be one too many: `python -m reports calibrate` does it afterwards.
        suite = [*bench, "run", *named, "--suite", "standard", "--no-calibrate", "--out", str(out)]
        begin_s = max(1.0, left_s - REPORT_RESERVE_S)
        passed &= _step([*suite, "--time-limit-s", f"{begin_s:.0f}"], log, limit_s=left_s)
        passed &= _long_tests(log, left_s=end_s - time.monotonic())
        passed &= _fits(out, log)
    return passed


def _long_tests(log: TextIO, *, left_s: float) -> bool:
    """The tests for which the records left time; those that find none are skipped, which fails nothing."""
    if left_s < LONG_LEAST_S:
        left = f"{max(0.0, left_s):.0f} s were left, {LONG_LEAST_S:.0f} needed"
        _tell(log, f"the longer GPU tests were not begun: {left}\n")
        return True
    tests = _tests("gpu and not smoke and not exhaustive", *LONG_TESTS)
    return _step([*tests, "--time-limit-s", f"{left_s - GRACE_S:.0f}"], log, limit_s=left_s)


def _tests(marked: str, *files: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-m", marked, "-q", "-rfEs", "-p", "no:cacheprovider", *files]


def _fits(out: Path, log: TextIO) -> bool:
    """Say what is more, or larger, than those who collect the folder take."""
    files = sorted(path for path in out.rglob("*") if path.is_file())
    problems = [f"{path} is {binary_bytes(path.stat().st_size)}" for path in files if path.stat().st_size > MOST_BYTES]
    if len(files) > MOST_FILES:
        problems.append(f"{out} holds {len(files)} files")
    for problem in problems:
        _tell(log, f"too much: {problem}; at most {MOST_FILES} files of {binary_bytes(MOST_BYTES)} were promised\n")
    return not problems


def _step(command: list[str], log: TextIO, *, limit_s: float) -> bool:
    """Run a command, copy its output to the screen and the log; True where it succeeded within the limit."""
    _tell(log, f"$ {' '.join(command)}\n")
    start_s = time.monotonic()
    # A session of its own: at the limit its workers go too, which would otherwise hold the pipe open.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        stopper = threading.Timer(limit_s, os.killpg, (process.pid, signal.SIGKILL))
        stopper.start()
        for line in process.stdout or ():
            _tell(log, line)
        stopper.cancel()
    spent_s = time.monotonic() - start_s
    cut = f", cut off at its limit of {limit_s:.0f} s" if process.returncode == -signal.SIGKILL else ""
    _tell(log, f"exit status {process.returncode} after {spent_s:.0f} s{cut}\n\n")
    return process.returncode == 0


def _tell(log: TextIO, text: str) -> None:
    for stream in (sys.stdout, log):
        stream.write(text)
        stream.flush()
