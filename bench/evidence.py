"""What a GPU is needed for, in one go: doctor, the tests marked `gpu`, the standard suite, its report."""

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

TESTS_LIMIT_S = 240.0
REPORT_RESERVE_S = 30.0  # for the last case and the figures


def collect(out: Path, *, gpu: str | None, time_limit_s: float) -> bool:
    """Write evidence.txt, and the standard suite's records and report, into `out`; True where all of it passed.

    Each step is the command that a person would type, in a process of its own; what it prints is copied to
    evidence.txt.
    """
    out.mkdir(parents=True, exist_ok=True)
    start_s = time.monotonic()
    named = [] if gpu is None else ["--gpu", gpu]
    python = [sys.executable, "-m"]
    with (out / "evidence.txt").open("w", encoding="utf-8") as log:
        passed = _step([*python, "bench", "doctor", *named], log, limit_s=60.0)
        tests = [*python, "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
        passed &= _step(tests, log, limit_s=TESTS_LIMIT_S)
        left_s = time_limit_s - (time.monotonic() - start_s) - REPORT_RESERVE_S
        suite = [*python, "bench", "run", *named, "--suite", "standard", "--out", str(out)]
        passed &= _step([*suite, "--time-limit-s", f"{left_s:.0f}"], log, limit_s=left_s + REPORT_RESERVE_S)
    return passed


def _step(command: list[str], log: TextIO, *, limit_s: float) -> bool:
    """Run a command, copy its output to the screen and the log; True where it succeeded within the limit."""
    _tell(log, f"$ {' '.join(command)}\n")
    start_s = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        stopper = threading.Timer(limit_s, process.kill)
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
