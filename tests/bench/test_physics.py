import dataclasses

import pytest

from bench.physics import floor_s, impossibility
from predict.errors import MissingCeiling
from predict.gpus import GPUS, Architecture, Memory, physical_roofs
from predict.resources import Resource
from predict.units import find_dtype
from predict.workloads import make_workload
from tests.factories import make_record

# Round numbers: 100 SMs of 1000 FLOP a clock at 2 GHz make 200 TFLOP/s; 8000 bits of 2 Gbit/s make 2 TB/s. L2 is 1 MB.
GPU = dataclasses.replace(
    GPUS["h200-sxm"],
    name="round",
    sm_count=100,
    max_hz=2e9,
    architecture=Architecture(90, {Resource.TENSOR_BF16: 1000, Resource.VECTOR_FP32: 1000}),
    memory=Memory(80 * 10**9, bus_bits=8000, pin_bits_per_s=2e9),
    roofs={},
)


def amounts(op="matmul", dtype="bf16", **dims):
    return make_workload(op, dims, find_dtype(dtype)).amounts


def test_the_physical_roofs_are_the_highest_clock_and_the_pin_rate():
    roofs = physical_roofs(GPU)
    assert roofs[Resource.TENSOR_BF16].per_s == pytest.approx(200e12)
    assert roofs[Resource.DRAM].per_s == pytest.approx(2e12)


def test_compute_bound_work_cannot_beat_the_highest_clock():
    # 2*8192^3 FLOP at 200 TFLOP/s.
    assert floor_s(amounts(m=8192, n=8192, k=8192), GPU, l2_bytes=10**6, cold_l2=True) == pytest.approx(
        2 * 8192**3 / 200e12
    )


def test_cold_reads_must_cross_but_the_last_writes_may_stay_in_l2():
    read = amounts("stream_read", "fp32", n=10**6)  # 4 MB
    assert floor_s(read, GPU, l2_bytes=10**6, cold_l2=True) == pytest.approx(4e6 / 2e12)
    copy = amounts("stream_copy", "fp32", n=10**6)  # 4 MB in, 4 MB out, of which 1 MB may stay
    assert floor_s(copy, GPU, l2_bytes=10**6, cold_l2=True) == pytest.approx(7e6 / 2e12)


def test_warm_operands_that_fit_in_l2_are_not_judged_against_dram():
    small = amounts("stream_read", "fp32", n=10**5)  # 0.4 MB
    # Its 10^5 additions at 200 TFLOP/s remain, and cold its 0.4 MB.
    assert floor_s(small, GPU, l2_bytes=10**6, cold_l2=False) == pytest.approx(1e5 / 200e12)
    assert floor_s(small, GPU, l2_bytes=10**6, cold_l2=True) == pytest.approx(0.4e6 / 2e12)
    large = amounts("stream_read", "fp32", n=10**6)
    assert floor_s(large, GPU, l2_bytes=10**6, cold_l2=False) == pytest.approx(3e6 / 2e12)


def test_fp64_matmul_is_held_against_vector_units_where_there_are_no_tensor_cores_for_it():
    # 142 SMs x 4 FLOP x 2.52 GHz: 1.431 TFLOP/s.
    gpu = GPUS["l40s"]
    matmul = amounts(dtype="fp64", m=1024, n=1024, k=1024)
    expected_s = 2 * 1024**3 / (gpu.sm_count * 4 * gpu.max_hz)
    assert floor_s(matmul, gpu, l2_bytes=10**9, cold_l2=True) == pytest.approx(expected_s)


def test_a_unit_that_the_gpu_lacks_has_no_floor():
    with pytest.raises(MissingCeiling):
        floor_s(amounts(dtype="fp8", m=8, n=8, k=8), GPUS["a100-sxm-80gb"], l2_bytes=10**6, cold_l2=True)


def test_a_card_of_unknown_bandwidth_is_held_to_nothing():
    unknown = dataclasses.replace(GPU, memory=Memory(80 * 10**9))
    with pytest.raises(MissingCeiling, match=r"no dram roof is known"):
        floor_s(amounts(m=8, n=8, k=8), unknown, l2_bytes=10**6, cold_l2=True)


def test_a_time_under_the_line_is_impossible_and_says_why():
    # The middle one of 1.0, 1.1 and 0.9 times 5 ms is 5 ms; the line is at 2*8192^3/200e12 = 5.5 ms.
    record = make_record(dims={"m": 8192, "n": 8192, "k": 8192}, time_s=5e-3)
    why = impossibility(record.workload.amounts, record.measurement, GPU, l2_bytes=10**6)
    assert why is not None
    assert "5.00 ms is under 5.50 ms" in why


def test_two_percent_of_tolerance():
    record = make_record(dims={"m": 8192, "n": 8192, "k": 8192}, time_s=2 * 8192**3 / 200e12 / 1.015)
    assert impossibility(record.workload.amounts, record.measurement, GPU, l2_bytes=10**6) is None
