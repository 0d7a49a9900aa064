"""Runs jobs in a process of its own: a crash, a hang or a poisoned CUDA context costs one record, not the run."""

import multiprocessing
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

from bench import host
from bench.callables import BadCallable, is_callable
from bench.context import PoisonsProcess, can_run_another, torch_settings
from bench.lab import Job, Lab, Outcome, Settings
from bench.machine import difference
from bench.printed import Printed, redirected
from bench.record import Environment, Status
from bench.timer import CaptureFailed
from kernels.unsupported import Unsupported
from predict.errors import NapkinError
from predict.units import binary_bytes, duration

START_LIMIT_S = 300.0  # importing torch from a cold network disk takes a minute or two
RESTART_LIMIT_S = 60.0  # the disk is warm by then; or three times the first start, if that is longer
RESTARTS = 2  # tries for one new worker: a driver may need a moment after a kill


class WorkerLost(Exception):
    """No further job can be run: no new worker starts, or the one that did finds another machine."""


class NotStarted(RuntimeError):
    """A worker that ended, or did not answer, before it was ready."""


class Bench(Protocol):
    """Something that runs jobs."""

    environment: Environment  # the machine that jobs run on

    def run(self, job: Job) -> Outcome:
        """Run one job; whatever happens is an outcome."""

    def close(self) -> None:
        """Release the device."""


class WorkerBench:
    """Runs jobs in a worker process, and starts a new one after one that died, hung or cannot go on.

    `environment` is the first worker's: all records of a run carry the same.
    """

    def __init__(self, make_lab: Callable[[Settings], Lab], settings: Settings, *, job_limit_s: float) -> None:
        """Start the worker and wait for it. Raises NotStarted, and the NapkinError that `make_lab` raises."""
        self._make_lab = make_lab
        self._settings = settings
        self._job_limit_s = job_limit_s
        self._not_captured: dict[tuple[str, str], str] = {}  # op and implementation: why
        self._printed = Printed()
        start_s = time.monotonic()
        self.environment = self._start(START_LIMIT_S)
        self._restart_limit_s = min(START_LIMIT_S, max(RESTART_LIMIT_S, 3 * (time.monotonic() - start_s)))

    def run(self, job: Job) -> Outcome:
        """Run one job; a worker that dies, hangs or is poisoned is replaced before the next. A job that could not be
        captured runs again without a graph, as do all later ones of its op and implementation. Raises WorkerLost."""
        kind = (job.workload.op, job.implementation)
        if not self._process.is_alive():
            self._restart()
        outcome = self._exchange(replace(job, not_captured=self._not_captured.get(kind)), self._job_limit_s)
        if outcome.poisoned:
            self.close()
        if is_callable(job.implementation):
            outcome = _with_printed(outcome, self._printed.tail())
        if outcome.not_captured is None or kind in self._not_captured:
            return outcome
        self._not_captured[kind] = outcome.not_captured
        return self.run(job)

    def close(self) -> None:
        """Stop the worker at once."""
        self._process.kill()
        self._process.join()
        self._connection.close()

    def _start(self, limit_s: float) -> Environment:
        """Start a worker and return its environment."""
        self._oom_kills = host.oom_kills() or 0
        context = multiprocessing.get_context("spawn")  # a forked child cannot use CUDA
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve,
            args=(theirs, self._make_lab, self._settings, self._printed.file),
            daemon=True,
            name="napkin-bench worker",
        )
        self._process.start()
        theirs.close()
        if not self._connection.poll(limit_s):
            self.close()
            raise NotStarted(f"the worker did not start within {duration(limit_s)}")
        try:
            answer: Environment | NapkinError = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            raise NotStarted(f"the worker ended while starting ({_death(self._process.exitcode)})") from None
        if isinstance(answer, NapkinError):
            self.close()
            raise answer
        return answer

    def _restart(self) -> None:
        """Start another worker for the same run."""
        for number in range(1, RESTARTS + 1):
            self.close()
            try:
                found = self._start(self._restart_limit_s)
            except NapkinError as error:
                raise WorkerLost(f"the restarted worker refused: {error}") from None
            except NotStarted as error:
                if number < RESTARTS:
                    continue
                raise WorkerLost(f"no new worker starts, {RESTARTS} were tried: {error}") from None
            if changed := _changed(self.environment, found):
                self.close()
                raise WorkerLost(f"the restarted worker found another machine or software: this run is of {changed}")
            return

    def _exchange(self, job: Job, limit_s: float) -> Outcome:
        """Send the job and wait for its outcome."""
        deadline_s = time.monotonic() + limit_s
        if is_callable(job.implementation):
            self._printed.clear()
        try:
            self._connection.send(job)
            while not self._connection.poll(0.2):
                self._printed.shorten()
                if time.monotonic() > deadline_s:
                    reason = f"not done after {duration(limit_s)}; raise --case-limit-s"
                    return Outcome(Status.TIMEOUT, reason, poisoned=True)
            outcome: Outcome = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            return self._outcome_of_death()
        return outcome

    def _outcome_of_death(self) -> Outcome:
        """The outcome of the job that ran when the worker died: out of memory if the kernel counts another kill for
        memory, else a crash."""
        kills, exit_code = host.oom_kills(), self._process.exitcode
        if exit_code == -signal.SIGKILL and kills is not None and kills > self._oom_kills:
            reason = f"killed for memory: this process may use {binary_bytes(host.memory_bytes())}"
            return Outcome(Status.OUT_OF_MEMORY, reason, poisoned=True)
        return Outcome(Status.CRASHED, f"the worker process died ({_death(exit_code)})", poisoned=True)


def attempt(lab: Lab, job: Job) -> Outcome:
    """Run one job, turn whatever it raises into an outcome with the text, and free its memory."""
    try:
        return lab.run(job)
    except Unsupported as error:
        return Outcome(Status.SKIPPED, _first_line(error))
    except BadCallable as error:
        return Outcome(Status.CRASHED, str(error), refused=True)
    except BaseException as error:
        if not isinstance(error, Exception) and not is_callable(job.implementation):
            raise  # Ctrl-C where jobs run in the user's process
        lab.forget()
        status = Status.OUT_OF_MEMORY if _is_out_of_memory(error) else Status.CRASHED
        not_captured = str(error) if isinstance(error, CaptureFailed) else None
        poisoned = isinstance(error, PoisonsProcess)
        outcome = Outcome(status, _one_line(error), poisoned=poisoned, not_captured=not_captured)
    # Only here: the error is gone, and with it the frames that hold the job's tensors.
    return replace(outcome, poisoned=outcome.poisoned or not can_run_another(lab.environment.device))


def attempt_foreign(lab: Lab, job: Job, printed: Path) -> Outcome:
    """Run a job of a user's function. What it prints goes into the file `printed`; if it changes a setting of torch,
    other jobs need another process."""
    before = torch_settings()
    with redirected(printed):
        outcome = attempt(lab, job)
    return replace(outcome, poisoned=outcome.poisoned or torch_settings() != before)


def _serve(connection: Connection, make_lab: Callable[[Settings], Lab], settings: Settings, printed: Path) -> None:
    """Make the lab, then answer jobs until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then stops this process
    # PyTorch warns why an SDPA backend declines; the reason goes into the record.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"kernels\.pytorch\.eager")
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
        foreign = is_callable(job.implementation)
        connection.send(attempt_foreign(lab, job, printed) if foreign else attempt(lab, job))


def _with_printed(outcome: Outcome, printed: str | None) -> Outcome:
    """The outcome with what was printed; the last line of it may say why the process died."""
    if printed is None or outcome.reason is None or outcome.status not in (Status.CRASHED, Status.TIMEOUT):
        return replace(outcome, printed=printed)
    last = printed.splitlines()[-1].strip()[:200]
    return replace(outcome, printed=printed, reason=f"{outcome.reason}; it printed last: {last}")


def _is_out_of_memory(error: BaseException) -> bool:
    """PyTorch's allocator has a type for it; the driver, Triton and cuBLAS only a message."""
    named = type(error).__name__ in ("OutOfMemoryError", "MemoryError")
    return named or any(words in str(error) for words in ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED"))


def _one_line(error: BaseException) -> str:
    """Type, first line of the message, and place."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {_first_line(error)} ({Path(frame.filename).name}:{frame.lineno})"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or "no message").splitlines()[0]


def _changed(first: Environment, now: Environment) -> str | None:
    """How the machine or the software changed during the run; None if it did not."""
    if first.commit and now.commit and first.commit != now.commit:
        return f"commit {first.commit}, the checkout is at {now.commit}"
    return difference(first, now)


def _death(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"exit status {exit_code}"
    if exit_code == -signal.SIGKILL:
        return "signal SIGKILL: often the system's memory killer"
    names = {each.value: each.name for each in signal.Signals}
    return f"signal {names.get(-exit_code, -exit_code)}"  # real-time signals have no names
