"""Everything that a GPU is needed for, the most telling first: smoke tests, doctor, records, longer tests.

The suite checks every kernel against fp64 before it times it, so tests of kernels that compile for minutes are left to
a run of their own.
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

SMOKE_TESTS = ("tests/test_gpu.py",)  # the tests marked smoke
LONG_TESTS = ("tests/test_gpu.py", "tests/predict/test_peak_memory.py", "tests/bench/test_tune.py")  # the others
SMOKE_LIMIT_S = 60.0
DOCTOR_LIMIT_S = 60.0
REPORT_RESERVE_S = 30.0  # for the last case and the figures
LONG_LEAST_S = 60.0  # collecting the tests takes less
GRACE_S = 20.0  # for the test that runs when time is up
LEAST_LIMIT_S = SMOKE_LIMIT_S + DOCTOR_LIMIT_S + 3 * REPORT_RESERVE_S  # less leaves the suite no time
MOST_FILES = 8
MOST_BYTES = 16 * MIB


def collect(out: Path, *, gpu: str | None, time_limit_s: float) -> bool:
    """Write evidence.txt, and the standard suite's records and report, into `out`; True if nothing failed.

    Each step is the command that a person would type, in a process of its own; its output is copied to evidence.txt.
    Raises BadRun if `out` holds something: found after the tests, that would have cost minutes.
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
        # `python -m reports calibrate` fits afterwards: it needs no GPU, and its file would be one too many.
        suite = [*bench, "run", *named, "--suite", "standard", "--no-calibrate", "--out", str(out)]
        begin_s = max(1.0, left_s - REPORT_RESERVE_S)
        passed &= _step([*suite, "--time-limit-s", f"{begin_s:.0f}"], log, limit_s=left_s)
        (out / "report.html").unlink(missing_ok=True)  # a file too many; `python -m reports render` makes it again
        passed &= _long_tests(log, left_s=end_s - time.monotonic())
        passed &= _fits(out, log)
    return passed


def _long_tests(log: TextIO, *, left_s: float) -> bool:
    """The longer tests, as time is left; those without time are skipped, which fails nothing."""
    if left_s < LONG_LEAST_S:
        left = f"{max(0.0, left_s):.0f} s were left, {LONG_LEAST_S:.0f} needed"
        _tell(log, f"the longer GPU tests were not begun: {left}\n")
        return True
    tests = _tests("gpu and not smoke and not exhaustive", *LONG_TESTS)
    return _step([*tests, "--time-limit-s", f"{left_s - GRACE_S:.0f}"], log, limit_s=left_s)


def _tests(marked: str, *files: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-m", marked, "-q", "-rfEs", "-p", "no:cacheprovider", *files]


def _fits(out: Path, log: TextIO) -> bool:
    """Whether the folder keeps to the promised number and size of files; say what does not."""
    files = sorted(path for path in out.rglob("*") if path.is_file())
    problems = [f"{path} is {binary_bytes(path.stat().st_size)}" for path in files if path.stat().st_size > MOST_BYTES]
    if len(files) > MOST_FILES:
        problems.append(f"{out} holds {len(files)} files")
    for problem in problems:
        _tell(log, f"too much: {problem}; at most {MOST_FILES} files of {binary_bytes(MOST_BYTES)} were promised\n")
    return not problems


def _step(command: list[str], log: TextIO, *, limit_s: float) -> bool:
    """Run a command, copy its output to the screen and the log; True if it succeeded within the limit."""
    _tell(log, f"$ {' '.join(command)}\n")
    start_s = time.monotonic()
    # A session of its own, so that the limit also stops its workers, which would hold the pipe open.
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
