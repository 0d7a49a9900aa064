"""What a GPU is needed for, in one go: doctor, the GPU tests of the harness, the standard suite, its report.

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

TESTS = ("tests/test_gpu.py", "tests/test_peak_memory.py", "tests/test_tune.py")
DOCTOR_LIMIT_S = 60.0
TESTS_SHARE = 0.5  # of the time that is left after the doctor
REPORT_RESERVE_S = 30.0  # for the last case and the figures
LEAST_LIMIT_S = 3 * REPORT_RESERVE_S  # less leaves the suite no time at all


def collect(out: Path, *, gpu: str | None, time_limit_s: float) -> bool:
    """Write evidence.txt, and the standard suite's records and report, into `out`; True where all of it passed.

    Each step is the command that a person would type, in a process of its own; what it prints is copied to
    evidence.txt. Raises BadRun where `out` holds something already: found after the tests, it would have cost minutes.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadRun(f"{out} is not an empty folder; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    end_s = time.monotonic() + time_limit_s
    named = [] if gpu is None else ["--gpu", gpu]
    python = [sys.executable, "-m"]
    with (out / "evidence.txt").open("w", encoding="utf-8") as log:
        passed = _step([*python, "bench", "doctor", *named], log, limit_s=min(DOCTOR_LIMIT_S, time_limit_s / 4))
        tests = [*python, "pytest", "-m", "gpu and not exhaustive", "-q", "-p", "no:cacheprovider", *TESTS]
        passed &= _step(tests, log, limit_s=TESTS_SHARE * (end_s - time.monotonic()))
        left_s = end_s - time.monotonic()
        # Fitting takes no GPU, and its file would be one too many: `python -m reports calibrate` does it afterwards.
        suite = [*python, "bench", "run", *named, "--suite", "standard", "--no-calibrate", "--out", str(out)]
        begin_s = max(1.0, left_s - REPORT_RESERVE_S)
        passed &= _step([*suite, "--time-limit-s", f"{begin_s:.0f}"], log, limit_s=left_s)
    return passed


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
    _tell(log, f"exit status {process.returncode} after {time.monotonic() - start_s:.0f} s\n\n")
    return process.returncode == 0


def _tell(log: TextIO, text: str) -> None:
    for stream in (sys.stdout, log):
        stream.write(text)
        stream.flush()
