"""About how long a case takes: the formula by hand, with the constants as they stand."""

import dataclasses

import pytest

from bench.forecast import CPU_COSTS, GPU_COSTS, Costs, forecast_s, nominal_roofs
from bench.lab import Job
from bench.sampling import Budget
from kernels.catalog import HAS_TRITON
from predict.units import find_dtype
from predict.workloads import make_workload
from tests.factories import make_environment
from tests.fakes import cpu_environment

CPU = dataclasses.replace(cpu_environment(), threads=2)  # 1 MiB of cache
H200 = make_environment()
COSTS = Costs(0.1, 0.5, 10, 1e9, reference=5, slower=2.0, triton_s=0.7, compile_s=9.0)
READ = make_workload("stream_read", {"n": 25_000_000}, find_dtype("fp32"))  # 100 MB: 10 ms at 10 GB/s, so 20 ms


@pytest.fixture(autouse=True)
def round_costs(monkeypatch):
    monkeypatch.setattr("bench.forecast.CPU_COSTS", COSTS)
    monkeypatch.setattr("bench.forecast.GPU_COSTS", COSTS)


def test_a_case_is_overhead_sampling_inputs_and_reference():
    # Half of 1 s is more than ten launches; 100 MB at 1 GB/s; five launches. The next finds inputs and reference there.
    first, second = forecast_s([Job(READ, "torch"), Job(READ, "torch_dot")], CPU, Budget(0.8, warmup_s=0.2))
    assert first == pytest.approx(0.1 + 0.5 + 0.1 + 0.1, rel=0.01)
    assert second == pytest.approx(0.1 + 0.5)


def test_a_long_launch_is_sampled_beyond_the_budget():
    (only_s,) = forecast_s([Job(READ, "torch")], CPU, Budget(0.08, warmup_s=0.02))
    assert only_s == pytest.approx(0.1 + 10 * 0.02 + 0.1 + 0.1, rel=0.01)


def test_small_operands_are_made_until_they_fill_the_cache_four_times():
    """64 KiB in 1 MiB of cache: 64 sets, 4.19 MB. 1 KiB: 1024 sets and no more, 1.05 MB."""
    for elements, input_bytes in ((2**14, 2**22), (2**8, 2**20)):
        workload = make_workload("stream_read", {"n": elements}, find_dtype("fp32"))
        (cold_s,), (warm_s,) = (
            forecast_s([Job(workload, "torch", warm)], CPU, Budget(1.0, 0.0)) for warm in (False, True)
        )
        assert cold_s - warm_s == pytest.approx((input_bytes - elements * 4) / 1e9, rel=0.02)


@pytest.mark.skipif(not HAS_TRITON, reason="about rows that need Triton")
def test_what_is_built_takes_longer():
    softmax = make_workload("softmax", {"rows": 64, "cols": 4096}, find_dtype("bf16"))
    names = ("torch", "triton", "torch_compile")
    _, torch_s, triton_s, compiled_s = forecast_s(
        [Job(softmax, "torch"), *(Job(softmax, name) for name in names)], H200, Budget(1.0, 0.0)
    )
    assert triton_s - torch_s == pytest.approx(0.7)
    assert compiled_s - torch_s == pytest.approx(9.0)


def test_a_card_that_the_table_lacks_has_no_estimate():
    assert forecast_s([Job(READ, "torch")], dataclasses.replace(H200, gpu=None), Budget()) == (None,)
    int4 = make_workload("matmul", {"m": 2, "n": 3, "k": 4}, find_dtype("fp4"))
    assert forecast_s([Job(int4, "torch"), Job(READ, "torch")], H200, Budget())[0] is None


def test_a_cpu_has_round_numbers_by_its_threads():
    four = nominal_roofs(dataclasses.replace(CPU, threads=4))
    assert {ceiling.source for ceiling in four.values()} == {"nominal"}
    assert four["vector.fp32"].per_s == 4 * 40e9
    assert nominal_roofs(H200)["dram"].per_s == 4.8e12


def test_the_constants_make_sense():
    for costs in (CPU_COSTS, GPU_COSTS):
        assert 0 < costs.sampled <= 1
        assert costs.slower >= 1  # nothing is faster than its napkin
