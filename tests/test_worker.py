"""A real worker process: what kills a kernel must not kill the run."""

import pytest

from bench.lab import Job, Settings
from bench.measure import Budget
from bench.record import Status
from bench.worker import WorkerBench
from predict.errors import BadRun
from predict.units import find_dtype
from predict.workloads import make_workload
from tests.fakes import make_faulty_lab

SETTINGS = Settings("cpu", None, force=False, warm_cache=False, budget=Budget(0.01, 0.0))
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
    ("fault", "status", "reason"),
    [
        ("dies", Status.CRASHED, "signal SIGKILL"),
        ("exits", Status.CRASHED, "exit status 3"),
        ("raises", Status.CRASHED, "RuntimeError: CUDA error: an illegal memory access (fakes.py:"),
    ],
)
def test_a_fault_is_an_outcome_and_the_next_job_runs(bench, fault, status, reason):
    outcome = bench.run(Job(WORKLOAD, fault))
    assert outcome.status is status
    assert reason in outcome.reason
    assert bench.run(Job(WORKLOAD, "torch")).status is Status.MEASURED


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
    assert outcome.status is Status.TIMEOUT
    assert "not done after 1.00 s; raise --case-limit-s" in outcome.reason
    assert bench.run(Job(WORKLOAD, "torch")).status is Status.MEASURED


def test_what_the_lab_refuses_is_raised_here():
    with pytest.raises(BadRun, match="but this is an H100"):
        WorkerBench(refuse, SETTINGS, job_limit_s=1.0)


def test_a_lab_that_cannot_be_made_is_a_bug_and_not_a_hang():
    with pytest.raises(RuntimeError, match="the worker ended while starting"):
        WorkerBench(break_down, SETTINGS, job_limit_s=1.0)
