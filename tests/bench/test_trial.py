"""What a trial asks of a bench, and what it makes of the answers; tests/bench/test_worker.py tries real functions."""

import pytest

from bench.callables import BadCallable
from bench.lab import TRIED, Job, Outcome, Trial
from bench.record import Status
from bench.trial import try_callables
from predict.units import find_dtype
from predict.workloads import make_workload
from tests.fakes import FakeBench

FP32 = find_dtype("fp32")
SMALL, LARGE = (make_workload("matmul", {"m": m, "n": 8, "k": 8}, FP32) for m in (1, 64))
ROWS = make_workload("softmax", {"rows": 4, "cols": 4}, FP32)
POISONED = Outcome(Status.SKIPPED, "only tried", poisoned=True)  # it took threads away, and lost its process for it
REFUSED = Outcome(Status.CRASHED, "--callable mine:f: no", refused=True)
DIED = Outcome(Status.CRASHED, "the worker process died (signal SIGSEGV)", poisoned=True)


def test_each_function_is_imported_once_and_called_on_the_smallest_workload_of_each_of_its_ops():
    bench = FakeBench(lambda job: TRIED)
    try_callables([Job(LARGE, "torch"), Job(LARGE, "mine:f"), Job(SMALL, "mine:f"), Job(ROWS, "mine:f")], bench)
    assert [(job.workload.id, job.trial) for job in bench.jobs] == [
        (ROWS.id, Trial.IMPORT),
        (SMALL.id, Trial.CALL),
        (ROWS.id, Trial.CALL),
    ]
    assert {job.implementation for job in bench.jobs} == {"mine:f"}


def test_without_a_users_function_nothing_is_tried():
    bench = FakeBench(lambda job: TRIED)
    try_callables([Job(LARGE, "torch")], bench)
    assert bench.jobs == []


@pytest.mark.parametrize(
    ("on_import", "on_call", "message"),
    [
        (TRIED, TRIED, None),
        (POISONED, POISONED, None),
        (TRIED, DIED, None),  # the run makes a record of it
        (DIED, TRIED, "--callable mine:f: importing it failed: the worker process died (signal SIGSEGV)"),
        (REFUSED, TRIED, "--callable mine:f: no"),
        (TRIED, REFUSED, "--callable mine:f: no"),
    ],
)
def test_only_what_no_record_can_tell_ends_the_run(on_import, on_call, message):
    bench = FakeBench(lambda job: on_import if job.trial is Trial.IMPORT else on_call)
    if message is None:
        try_callables([Job(SMALL, "mine:f")], bench)
    else:
        with pytest.raises(BadCallable) as caught:
            try_callables([Job(SMALL, "mine:f")], bench)
        assert str(caught.value) == message
