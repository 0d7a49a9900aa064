"""When an implementation is given up."""

import pytest

from bench.crashes import Crashes
from bench.lab import Job, Outcome
from bench.record import Status
from predict.units import find_dtype
from predict.workloads import make_workload

MATMUL = make_workload("matmul", {"m": 2, "n": 3, "k": 4}, find_dtype("fp32"))
LARGER = make_workload("matmul", {"m": 20, "n": 30, "k": 40}, find_dtype("bf16"))
COPY = make_workload("stream_copy", {"n": 5}, find_dtype("fp32"))


def crashed(reason="boom", *, status=Status.CRASHED, poisoned=False):
    return Outcome(status, reason, poisoned=poisoned)


def given_up_after(*outcomes, job):
    crashes = Crashes()
    for outcome in outcomes:
        crashes.add(Job(MATMUL, "triton"), outcome)
    return crashes.given_up(job)


@pytest.mark.parametrize(
    ("outcomes", "reason"),
    [
        ([crashed()], None),
        ([crashed(), crashed()], "boom"),
        ([crashed(), crashed("bang")], None),
        ([crashed(), crashed("bang"), crashed()], "boom"),
        # Each of these cost a worker, which is what makes them alike.
        ([crashed("died", poisoned=True), crashed("too long", status=Status.TIMEOUT, poisoned=True)], "too long"),
        ([crashed("died", poisoned=True), crashed("died")], None),
        ([crashed(status=Status.OUT_OF_MEMORY)] * 3, None),  # smaller shapes may fit
        ([crashed(status=Status.INCORRECT)] * 3, None),
        ([crashed(status=Status.SKIPPED)] * 3, None),
        ([Outcome(Status.MEASURED, None, poisoned=True)] * 3, None),
    ],
)
def test_two_that_are_alike_are_enough(outcomes, reason):
    assert given_up_after(*outcomes, job=Job(LARGER, "triton")) == reason


@pytest.mark.parametrize("job", [Job(MATMUL, "torch"), Job(COPY, "triton"), Job(MATMUL, "triton@64x64-w4-s3")])
def test_others_are_still_tried(job):
    assert given_up_after(crashed(), crashed(), job=job) is None
