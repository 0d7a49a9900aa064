"""A real worker process: what kills a kernel must not kill the run."""

import contextlib
import functools
import gc
import re
import weakref
from dataclasses import replace

import pytest
import torch

from bench.callables import BadCallable
from bench.lab import Job, Settings
from bench.record import Status
from bench.sampling import Budget
from bench.trial import try_callables
from bench.worker import NotStarted, WorkerBench, WorkerLost, _death
from predict.errors import BadRun
from predict.units import find_dtype
from predict.workloads import make_workload
from tests.bench.test_runner import SMALL, add_implementation, lab
from tests.fakes import InProcessBench, cpu_environment, make_faulty_lab, make_lab_that_counts

SETTINGS = Settings("cpu", None, force=False, warm_cache=False, budget=Budget(0.01, 0.0))
HERE = cpu_environment()
WORKLOAD = make_workload("matmul", {"m": 2, "n": 3, "k": 4}, find_dtype("fp32"))


def refuse(settings):
    raise BadRun("--gpu a100 was asked for, but this is an H100")


def break_down(settings):
    raise RuntimeError("a bug")


@pytest.fixture(scope="module")
def bench():
    bench = WorkerBench(make_faulty_lab, SETTINGS, job_limit_s=20.0)
    yield bench
    bench.close()


def test_the_worker_tells_its_environment(bench):
    assert bench.environment.name == "Fake CPU"


@pytest.mark.parametrize(
    ("fault", "status", "reason", "replaced"),
    [
        ("dies", Status.CRASHED, "signal SIGKILL: often the system's memory killer", True),
        ("exits", Status.CRASHED, "exit status 3", True),
        ("poisons", Status.CRASHED, "PoisonsProcess: a capture was left behind (fakes.py:", True),
        ("raises", Status.CRASHED, "RuntimeError: CUDA error: an illegal memory access (fakes.py:", False),
    ],
)
def test_a_fault_is_an_outcome_and_costs_a_new_worker_only_where_it_must(bench, fault, status, reason, replaced):
    bench.run(Job(WORKLOAD, "torch"))  # the worker is up
    before = bench._process.pid
    outcome = bench.run(Job(WORKLOAD, fault))
    assert outcome.status is status
    assert reason in outcome.reason
    assert outcome.poisoned == replaced
    assert bench.run(Job(WORKLOAD, "torch")).status is Status.MEASURED
    assert (bench._process.pid != before) == replaced


def test_a_worker_that_dies_while_a_job_is_handed_over_is_an_outcome(bench, monkeypatch):
    bench.run(Job(WORKLOAD, "torch"))  # the worker is up
    bench._process.kill()
    bench._process.join()
    monkeypatch.setattr(bench._process, "is_alive", lambda: True)  # it died just after it was asked
    outcome = bench.run(Job(WORKLOAD, "torch"))
    monkeypatch.undo()
    assert outcome.status is Status.CRASHED
    assert bench.run(Job(WORKLOAD, "torch")).status is Status.MEASURED


def test_a_job_that_hangs_is_stopped(bench):
    bench.run(Job(WORKLOAD, "torch"))  # the worker is up
    bench._job_limit_s = 1.0
    outcome = bench.run(Job(WORKLOAD, "hangs"))
    bench._job_limit_s = 20.0
    assert (outcome.status, outcome.poisoned) == (Status.TIMEOUT, True)
    assert "not done after 1.00 s; raise --case-limit-s" in outcome.reason
    assert bench.run(Job(WORKLOAD, "torch")).status is Status.MEASURED


def test_what_the_lab_refuses_is_raised_here():
    with pytest.raises(BadRun, match="but this is an H100"):
        WorkerBench(refuse, SETTINGS, job_limit_s=1.0)


def test_a_lab_that_cannot_be_made_is_a_bug_and_not_a_hang():
    with pytest.raises(RuntimeError, match="the worker ended while starting"):
        WorkerBench(break_down, SETTINGS, job_limit_s=1.0)


def test_the_environment_of_a_run_is_that_of_its_first_worker(tmp_path):
    make = functools.partial(make_lab_that_counts, tmp_path / "starts")
    with contextlib.closing(WorkerBench(make, SETTINGS, job_limit_s=20.0)) as bench:
        first = bench.environment
        assert first.utc == "2026-01-01T00:00:01+00:00"
        bench.run(Job(WORKLOAD, "dies"))
        assert bench.run(Job(WORKLOAD, "torch")).status is Status.MEASURED
        assert bench.environment == first
    assert (tmp_path / "starts").read_text() == "xx"


def test_a_worker_that_does_not_start_at_once_is_tried_again(bench, monkeypatch):
    answers = [NotStarted("the driver needs a moment"), HERE]

    def start(limit_s):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    bench.close()
    with monkeypatch.context() as patched:
        patched.setattr(bench, "_start", start)
        bench._restart()
    assert answers == []


@pytest.mark.parametrize(
    ("found", "message", "tries"),
    [
        (NotStarted("the worker ended while starting (exit status 1)"), "no new worker starts, 2 were tried: the", 2),
        (BadRun("--gpu a100 was asked for"), "the restarted worker refused: --gpu a100 was asked for", 1),
        (replace(HERE, name="Other CPU"), "software: this run is of Fake CPU, this is Other CPU", 1),
        (replace(HERE, torch="9.9"), "this run is of Fake CPU, whose torch is 2.13.0, not 9.9", 1),
        (replace(HERE, driver="580"), None, 1),  # the first was not told, which contradicts nothing
        (replace(HERE, commit="4567def"), "this run is of commit 0123abc, the checkout is at 4567def", 1),
        (replace(HERE, commit=None, dirty=True), None, 1),
    ],
)
def test_a_worker_that_cannot_be_replaced_by_its_like_is_said(bench, monkeypatch, found, message, tries):
    asked = []

    def start(limit_s):
        asked.append(limit_s)
        if isinstance(found, Exception):
            raise found
        return found

    bench.close()
    monkeypatch.setattr(bench, "_start", start)
    if message is None:
        bench._restart()
    else:
        with pytest.raises(WorkerLost, match=re.escape(message)):
            bench.run(Job(WORKLOAD, "torch"))
    assert len(asked) == tries
    assert bench.environment == HERE
    assert 60.0 <= asked[0] <= 300.0


def test_a_worker_that_says_nothing_is_stopped(bench):
    with pytest.raises(NotStarted, match=r"did not start within 10\.0 ms"):
        bench._start(0.01)
    assert not bench._process.is_alive()


@pytest.mark.parametrize(
    ("exit_code", "text"),
    [(3, "exit status 3"), (-11, "signal SIGSEGV"), (-40, "signal 40"), (None, "exit status None")],
)
def test_a_death_is_named(exit_code, text):
    assert _death(exit_code) == text


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), Status.OUT_OF_MEMORY),
        (MemoryError(), Status.OUT_OF_MEMORY),
        (RuntimeError("Triton Error [CUDA]: out of memory"), Status.OUT_OF_MEMORY),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), Status.OUT_OF_MEMORY),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"), Status.CRASHED),
    ],
)
def test_whatever_a_job_held_when_it_failed_is_free_afterwards(monkeypatch, error, status):
    held = []

    def breaks(a, b):
        product = a @ b
        held.append(weakref.ref(product))
        ring = [product]
        ring.append(ring)  # only the collector finds it
        raise error

    add_implementation(monkeypatch, "broken", breaks)
    gc.disable()
    try:
        outcome = InProcessBench(lab()).run(Job(SMALL, "broken"))
    finally:
        gc.enable()
    error.__traceback__ = None  # this test holds the error, as nothing in a run does
    gc.collect()
    assert (outcome.status, outcome.poisoned) == (status, False)
    assert [each() for each in held] == [None]


def test_what_cannot_be_captured_is_timed_without_a_graph_in_a_new_process(bench):
    """And so is all that comes after it of that op and implementation, without costing another process."""
    first = bench._process.pid
    copies = [make_workload("stream_copy", {"n": n}, find_dtype("fp32")) for n in (1000, 2000)]
    outcomes = [bench.run(Job(copies[0], "torch"))]
    second = bench._process.pid
    outcomes.append(bench.run(Job(copies[1], "torch")))
    assert [outcome.status for outcome in outcomes] == [Status.MEASURED] * 2
    assert {outcome.measurement.not_captured for outcome in outcomes} == {
        "not captured in a CUDA graph: operation not permitted"
    }
    assert first != second == bench._process.pid


@pytest.mark.parametrize(("kills", "status"), [((3, 4), Status.OUT_OF_MEMORY), ((3, 3), Status.CRASHED)])
def test_a_worker_that_was_killed_for_memory_is_told_from_one_that_died(bench, monkeypatch, kills, status):
    """The kernel counts whom it killed; a signal alone may have come from anybody."""
    before, after = kills
    bench.run(Job(WORKLOAD, "torch"))  # on a worker that lives
    monkeypatch.setattr(bench, "_oom_kills", before)
    monkeypatch.setattr("bench.worker.host.oom_kills", lambda: after)
    monkeypatch.setattr("bench.worker.host.memory_bytes", lambda: 3 * 2**29)
    outcome = bench.run(Job(WORKLOAD, "dies"))
    assert (outcome.status, outcome.poisoned) == (status, True)
    assert ("killed for memory: this process may use 1.5 GiB" in outcome.reason) == (status is Status.OUT_OF_MEMORY)


# A user's function in a real worker.

MINE = """
import ctypes, os, time
import torch

def right(a, b):
    return a @ b

def chatty(a, b):
    os.write(1, b"written in C\\n")
    print("printed in Python")
    return a @ b

def wrong(a, b):
    return (a @ b) * 1.5

def in_place(a, b):
    return a.mul_(2) @ b / 2

def raises(a, b):
    raise ValueError("a tile is too large")

def zeros(a, b):
    return torch.zeros_like(a @ b)

def nans(a, b):
    return torch.full_like(a @ b, float("nan"))

def leaves(a, b):
    raise SystemExit(7)

def interrupts(a, b):
    raise KeyboardInterrupt

def segfaults(a, b):
    os.write(2, b"about to read address 0\\n")
    ctypes.string_at(0)

def hangs(a, b):
    print("waiting for a lock", flush=True)
    while True:
        time.sleep(0.01)

def one_thread(a, b):
    torch.set_num_threads(1)
    return a @ b

def one_argument(a):
    return a

def transposed(a, b):
    return (a @ b).t()

def transposed_if_large(a, b):
    return (a @ b).t() if len(a) > 2 else a @ b
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """A worker that was started in the folder of a user's package."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "mypackage").mkdir()
    (folder / "mypackage/__init__.py").touch()
    (folder / "mypackage/kernels.py").write_text(MINE)
    (folder / "dies.py").write_text("import os\nprint('no license')\nos._exit(9)\n")
    with contextlib.chdir(folder):
        bench = WorkerBench(make_faulty_lab, SETTINGS, job_limit_s=20.0)
        yield bench
        bench.close()


def run_mine(bench, function, workload=WORKLOAD):
    return bench.run(Job(workload, f"mypackage.kernels:{function}"))


def test_a_users_function_is_checked_and_timed_like_any_other(mine):
    outcome = run_mine(mine, "right")
    assert (outcome.status, outcome.printed) == (Status.MEASURED, None)
    assert outcome.check.passed


def test_what_it_prints_is_in_its_outcome_and_not_on_our_stdout(mine, capfd):
    outcome = run_mine(mine, "chatty")
    assert outcome.status is Status.MEASURED
    assert set(outcome.printed.splitlines()) == {"written in C", "printed in Python"}
    assert run_mine(mine, "right").printed is None
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("function", "status", "reason"),
    [
        ("wrong", Status.INCORRECT, "wrong result: relative error 0.5"),
        # A wrong result may well be the same for every input: that it is wrong is what helps.
        ("zeros", Status.INCORRECT, "wrong result: relative error 1 "),
        ("nans", Status.INCORRECT, "wrong result: it holds NaN or infinity"),
        ("in_place", Status.INCORRECT, "changes its input 0"),
        ("transposed", Status.INCORRECT, "returns a tensor (3, 2), where a tensor (2, 3) is right"),
        ("raises", Status.CRASHED, "ValueError: a tile is too large (kernels.py:20)"),
        ("leaves", Status.CRASHED, "SystemExit: 7 (kernels.py:29)"),
        ("interrupts", Status.CRASHED, "KeyboardInterrupt: no message (kernels.py:32)"),
        ("segfaults", Status.CRASHED, "(signal SIGSEGV); it printed last: about to read address 0"),
    ],
)
def test_whatever_it_does_is_an_outcome_with_its_reason(mine, function, status, reason):
    outcome = run_mine(mine, function)
    assert outcome.status is status
    assert reason in outcome.reason
    assert run_mine(mine, "right").status is Status.MEASURED


def test_one_that_hangs_is_stopped_and_says_what_it_printed(mine):
    run_mine(mine, "right")  # the worker is up
    mine._job_limit_s = 1.0
    outcome = run_mine(mine, "hangs")
    mine._job_limit_s = 20.0
    assert outcome.status is Status.TIMEOUT
    assert outcome.reason.endswith("raise --case-limit-s; it printed last: waiting for a lock")


def test_one_that_takes_threads_away_costs_its_process_and_not_the_rows_after_it(mine):
    run_mine(mine, "right")
    before = mine._process.pid
    outcome = run_mine(mine, "one_thread")
    assert outcome.status is Status.MEASURED
    assert outcome.poisoned == (torch.get_num_threads() > 1)
    assert run_mine(mine, "right").status is Status.MEASURED
    assert (mine._process.pid != before) == outcome.poisoned


LARGER = make_workload("matmul", {"m": 4, "n": 3, "k": 4}, find_dtype("fp32"))


def tried(bench, name):
    try_callables([Job(LARGER, "torch"), Job(LARGER, name), Job(WORKLOAD, name)], bench)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mypackage.kernels:absent", "mypackage.kernels has no absent"),
        ("mypackage.kernels:MINE", "has no MINE"),
        ("mypackage.kernels:torch", "torch is no function but of type module"),
        ("mypackage.kernels:one_argument", "is called with 2 tensors, but takes (a): too many positional arguments"),
        (
            "mypackage.kernels:transposed",
            "transposed returns a tensor (3, 2), where a tensor (2, 3) is right for matmul-m2-n3-k4-fp32",
        ),
        ("dies:f", "importing it failed: the worker process died (exit status 9)"),
    ],
)
def test_a_trial_refuses_what_cannot_be_measured_in_one_line(mine, name, message):
    with pytest.raises(BadCallable) as caught:
        tried(mine, name)
    assert message in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("function", ["right", "wrong", "raises", "transposed_if_large"])
def test_a_trial_leaves_to_the_run_what_makes_a_record(mine, function):
    tried(mine, f"mypackage.kernels:{function}")
    assert run_mine(mine, "right").status is Status.MEASURED
