"""One pytest-benchmark case per workload of the quick suite, with the whole Record in `extra_info`:

    pytest -m gpu tests/test_gpu_benchmarks.py --benchmark-enable --benchmark-save=h200
    pytest-benchmark compare

pytest-benchmark times the host, so each case is measured by our own timer, and its samples are played back.
"""

import json

import pytest

from bench.lab import Settings, make_lab
from bench.record import HARNESS, SCHEMA, Record, RoofSet, Status, to_line
from bench.runner import jobs_of
from bench.sampling import Budget
from bench.suites import GPU_SUITES
from predict.errors import MissingCeiling
from predict.gpus import GPUS
from predict.roofline import predict
from tests.fakes import InProcessBench


class DeviceClock:
    """A clock that stands still but for the samples that are played."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s

    def play(self, benchmark, times_s):
        """Make pytest-benchmark see exactly these times."""
        remaining = iter(times_s)

        def next_sample():
            self.now_s += next(remaining)

        benchmark.pedantic(next_sample, rounds=len(times_s), iterations=1)


CLOCK = DeviceClock()


@pytest.fixture(scope="module")
def bench():
    budget = Budget(time_s=0.1, warmup_s=0.05)
    bench = InProcessBench(make_lab(Settings("cuda", None, force=False, warm_cache=False, budget=budget)))
    yield bench
    bench.close()


def make_record(job, outcome, environment):
    datasheet = GPUS[environment.gpu].roofs if environment.gpu else {}
    try:
        prediction = predict(job.workload.amounts, datasheet)
    except MissingCeiling:
        prediction = None
    return Record(
        SCHEMA, HARNESS, job.workload, job.implementation, outcome.status, outcome.reason, prediction,
        RoofSet(datasheet, {}), outcome.check, outcome.measurement, environment,
    )  # fmt: skip


@pytest.mark.gpu
@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.benchmark(timer=CLOCK)
@pytest.mark.parametrize(
    "job",
    [pytest.param(job, id=f"{job.workload.id}-{job.implementation}") for job in jobs_of(GPU_SUITES["quick"], "cuda")],
)
def test_workload(benchmark, bench, job):
    outcome = bench.run(job)
    if outcome.status is Status.SKIPPED:
        pytest.skip(outcome.reason)
    assert outcome.status is Status.MEASURED, outcome.reason
    benchmark.extra_info["record"] = json.loads(to_line(make_record(job, outcome, bench.environment)))
    CLOCK.play(benchmark, outcome.measurement.times_s)


@pytest.mark.benchmark(timer=CLOCK)
def test_played_samples_are_what_pytest_benchmark_sees(benchmark):
    CLOCK.play(benchmark, (1e-3, 3e-3, 2e-3))
    if benchmark.enabled:
        assert benchmark.stats.stats.sorted_data == pytest.approx([1e-3, 2e-3, 3e-3])
