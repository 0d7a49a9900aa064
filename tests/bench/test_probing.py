"""Only the roofs that a function needs are measured, and once."""

import pytest

from bench import probing
from bench.lab import Outcome
from bench.record import Measurement, Status
from predict.resources import Resource
from predict.workloads import Amounts
from tests.fakes import cpu_environment


class CountingLab:
    """Says of every probe that it took 10 ms."""

    def __init__(self, jobs):
        self.environment, self.jobs = cpu_environment(), jobs

    def run(self, job):
        self.jobs.append(job)
        measurement = Measurement((0.01,) * 6, "wall_clock", 1, "converged", True, None, None, None, None)
        return Outcome(Status.MEASURED, None, None, measurement)


@pytest.fixture
def jobs(monkeypatch):
    jobs = []
    monkeypatch.setattr(probing, "make_lab", lambda settings: CountingLab(jobs))
    monkeypatch.setattr(probing, "_KNOWN", {})
    return jobs


def test_bytes_need_streams_and_flop_the_products_of_their_unit(jobs):
    moves, multiplies = Amounts({}, 1.0, 1.0), Amounts({Resource.TENSOR_BF16: 1.0}, 0, 0)
    assert all(roof.startswith("dram.") for roof in probing.probe_roofs(moves, cpu_environment()))
    assert {job.workload.op for job in jobs} >= {"stream_read", "stream_copy"}
    assert all(job.workload.dims.get("m", 1) == 1 for job in jobs)
    jobs.clear()
    # 2 * 256 * 2048 * 2048 FLOP in 10 ms; both shapes do as many
    roofs = probing.probe_roofs(multiplies, cpu_environment())
    assert roofs[Resource.TENSOR_BF16].per_s == pytest.approx(2 * 256 * 2048 * 2048 / 0.01)
    assert {(job.workload.op, job.workload.dtype.name) for job in jobs} == {("matmul", "bf16")}


def test_a_roof_is_measured_once(jobs):
    amounts = Amounts({Resource.VECTOR_FP32: 1.0}, 1.0, 0)
    first = probing.probe_roofs(amounts, cpu_environment())
    count = len(jobs)
    assert probing.probe_roofs(amounts, cpu_environment()) == first
    assert len(jobs) == count > 0
