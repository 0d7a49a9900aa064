"""A process that runs jobs, so that a crash, a hang or a poisoned CUDA context costs one record and not the run."""

import multiprocessing
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

from bench.lab import Job, Lab, Outcome, Settings
from bench.record import Environment, Status
from kernels.unsupported import Unsupported
from predict.errors import NapkinError
from predict.units import duration

START_LIMIT_S = 300.0  # importing torch from a cold network disk takes a minute or two


class Bench(Protocol):
    """Something that runs jobs."""

    @property
    def environment(self) -> Environment:
        """The machine that jobs run on."""

    def run(self, job: Job) -> Outcome:
        """Run one job; whatever happens is an outcome."""

    def close(self) -> None:
        """Let go of the device."""


class InProcessBench:
    """Runs jobs in this process: for tests, and where a debugger is attached."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.environment = lab.environment

    def run(self, job: Job) -> Outcome:
        """Run one job; whatever it raises becomes the reason of its outcome."""
        return attempt(self._lab, job)

    def close(self) -> None:
        """Free what the lab keeps."""
        self._lab.forget()


class WorkerBench:
    """Runs jobs in a process of its own, and starts a new one after a crash or a job that takes too long."""

    def __init__(self, make_lab: Callable[[Settings], Lab], settings: Settings, *, job_limit_s: float) -> None:
        """Start the worker and wait for it; raises what `make_lab` raises."""
        self._make_lab = make_lab
        self._settings = settings
        self._job_limit_s = job_limit_s
        self._start()

    def run(self, job: Job) -> Outcome:
        """Run one job; a worker that dies or takes over the limit is replaced."""
        if not self._process.is_alive():
            self._start()
        outcome = self._exchange(job, self._job_limit_s)
        if outcome.status in (Status.CRASHED, Status.TIMEOUT):
            self.close()  # after a CUDA error every later call of the process fails too
        return outcome

    def close(self) -> None:
        """Stop the worker, whatever it does."""
        self._process.kill()
        self._process.join()
        self._connection.close()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # a forked child cannot use CUDA
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self._make_lab, self._settings), daemon=True, name="napkin-bench worker"
        )
        self._process.start()
        theirs.close()
        if not self._connection.poll(START_LIMIT_S):
            self.close()
            raise TimeoutError(f"the worker did not start within {duration(START_LIMIT_S)}")
        try:
            answer = self._connection.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"the worker ended while starting ({_death(self._process.exitcode)})") from None
        if isinstance(answer, NapkinError):
            self.close()
            raise answer
        self.environment: Environment = answer

    def _exchange(self, job: Job, limit_s: float) -> Outcome:
        """Send the job and wait for its outcome."""
        deadline_s = time.monotonic() + limit_s
        try:
            self._connection.send(job)
            while not self._connection.poll(0.2):
                if time.monotonic() > deadline_s:
                    return Outcome(Status.TIMEOUT, f"not done after {duration(limit_s)}; raise --case-limit-s")
            outcome: Outcome = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            return Outcome(Status.CRASHED, f"the worker process died ({_death(self._process.exitcode)})")
        return outcome


def attempt(lab: Lab, job: Job) -> Outcome:
    """Run one job and turn whatever it raises into an outcome that carries the text."""
    try:
        return lab.run(job)
    except Unsupported as error:
        return Outcome(Status.SKIPPED, _first_line(error))
    except Exception as error:  # noqa: BLE001 - the one place: a failing case is a record, not the end of the run
        lab.forget()
        if type(error).__name__ in ("OutOfMemoryError", "MemoryError"):
            return Outcome(Status.OUT_OF_MEMORY, _one_line(error))
        return Outcome(Status.CRASHED, _one_line(error))


def _serve(connection: Connection, make_lab: Callable[[Settings], Lab], settings: Settings) -> None:
    """The worker's life: make the lab, then answer jobs until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then stops this process
    # PyTorch warns why an SDPA backend declines; the reason goes into the record.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"kernels\.eager")
    try:
        lab = make_lab(settings)
    except NapkinError as error:
        connection.send(error)
        return
    connection.send(lab.environment)
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        connection.send(attempt(lab, job))


def _one_line(error: Exception) -> str:
    """What was raised, the first line of its message, and where."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {_first_line(error)} ({Path(frame.filename).name}:{frame.lineno})"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0]


def _death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"signal {signal.Signals(-exit_code).name}"
    return f"exit status {exit_code}"
