import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predict.errors import MissingCeiling
from predict.gpus import GPUS, resolve
from predict.resources import Ceiling, Resource, find_ceiling
from predict.roofline import explain, predict
from predict.units import find_dtype
from predict.workloads import make_workload, sweep_amounts
from tests.factories import ROOFS

BF16 = find_dtype("bf16")


def matmul(m, n=8192, k=8192):
    return make_workload("matmul", {"m": m, "n": n, "k": k}, BF16)


def test_the_napkin_is_the_larger_of_compute_and_memory_time():
    # 2*16*8192^2 = 2.147e9 FLOP at 100 TFLOP/s: 21.5 us. (16*8192*2 + 8192^2)*2 = 134.7e6 bytes at 1 TB/s: 134.7 us.
    prediction = predict(matmul(16).amounts, ROOFS)
    assert prediction.napkin_s == pytest.approx(134_742_016 / 1e12)
    assert prediction.serial_s == pytest.approx(134_742_016 / 1e12 + 2_147_483_648 / 100e12)
    assert prediction.bound is Resource.DRAM
    assert prediction.expected_s is None


def test_a_large_batch_is_compute_bound():
    # 2*8192^3 = 1.0995e12 FLOP: 11 ms, against 3*8192^2*2 bytes: 0.4 ms.
    prediction = predict(matmul(8192).amounts, ROOFS)
    assert prediction.bound is Resource.TENSOR_BF16
    assert prediction.napkin_s == pytest.approx(2 * 8192**3 / 100e12)


def test_explain_writes_the_arithmetic_of_the_design_example():
    h200 = resolve("h200")
    text = explain(matmul(16), "h200-sxm", predict(matmul(16).amounts, h200.roofs))
    head, compute, memory = text.splitlines()
    assert head == "matmul-m16-n8192-k8192-bf16 on h200-sxm    napkin 28.1 us    bound: dram"
    assert compute.split() == "tensor.bf16 2.147e+09 FLOP / 9.895e+14 per s = 2.170 us".split()
    assert memory.split() == "dram 1.347e+08 byte / 4.800e+12 per s = 28.07 us".split()


def test_an_empty_launch_has_no_bound_and_takes_no_time_on_the_napkin():
    prediction = predict(make_workload("launch", {}, BF16).amounts, {})
    assert (prediction.napkin_s, prediction.bound, prediction.terms) == (0.0, None, ())


def test_traffic_runs_against_the_measured_roof_of_its_own_mix():
    roofs = {
        Resource.DRAM_READ: Ceiling(4e12, "measured"),
        Resource.DRAM_TRIAD: Ceiling(3e12, "measured"),
        Resource.DRAM_COPY: Ceiling(2e12, "measured"),
        Resource.DRAM_WRITE: Ceiling(1e12, "measured"),
        Resource.VECTOR_FP32: Ceiling(1e15, "measured"),
    }
    fp32 = find_dtype("fp32")
    for op, mix, moved in (
        ("stream_read", Resource.DRAM_READ, 4000),
        ("stream_triad", Resource.DRAM_TRIAD, 12000),
        ("stream_copy", Resource.DRAM_COPY, 8000),
        ("stream_write", Resource.DRAM_WRITE, 4000),
    ):
        prediction = predict(make_workload(op, {"n": 1000}, fp32).amounts, roofs)
        assert prediction.bound is mix
        assert prediction.napkin_s == pytest.approx(moved / roofs[mix].per_s)


def test_a_missing_roof_is_an_error_that_names_the_known_ones():
    with pytest.raises(MissingCeiling, match=r"no tensor.bf16 roof .*known: dram"):
        predict(matmul(1).amounts, {Resource.DRAM: ROOFS[Resource.DRAM]})
    with pytest.raises(MissingCeiling, match="no DRAM roof"):
        predict(matmul(1).amounts, {Resource.TENSOR_BF16: ROOFS[Resource.TENSOR_BF16]})


def test_fp64_matmul_runs_on_vector_units_where_there_are_no_fp64_tensor_cores():
    l40s = GPUS["l40s"].roofs
    assert find_ceiling(Resource.TENSOR_FP64, l40s) == l40s[Resource.VECTOR_FP64]
    h100 = GPUS["h100-sxm"].roofs
    assert find_ceiling(Resource.TENSOR_FP64, h100) == h100[Resource.TENSOR_FP64]


def test_a_ceiling_of_zero_is_refused():
    with pytest.raises(ValueError, match="must be positive"):
        Ceiling(0.0, "nowhere")


dimension = st.integers(1, 100_000)


@given(dimension, dimension, dimension)
def test_the_napkin_lies_between_each_term_and_their_sum(m, n, k):
    prediction = predict(matmul(m, n, k).amounts, ROOFS)
    times_s = [term.time_s for term in prediction.terms]
    assert prediction.napkin_s == max(times_s)
    assert prediction.napkin_s <= prediction.serial_s <= 2 * prediction.napkin_s


@given(st.lists(st.tuples(dimension, dimension, dimension), min_size=1, max_size=20))
def test_one_time_model_serves_single_workloads_and_sweeps(rows):
    m, n, k = (np.array(column) for column in zip(*rows, strict=True))
    swept = predict(sweep_amounts("matmul", {"m": m, "n": n, "k": k}, BF16), ROOFS)
    singles = [predict(matmul(*row).amounts, ROOFS).napkin_s for row in rows]
    np.testing.assert_allclose(swept.napkin_s, singles, rtol=1e-15)


@given(st.lists(st.integers(1, 4096), min_size=1, max_size=20))
def test_sweeps_pick_the_mix_of_each_row(batches):
    roofs = {
        Resource.TENSOR_BF16: Ceiling(1e30, "never the bound"),
        Resource.DRAM_READ: Ceiling(4e12, "measured"),
        Resource.DRAM_WRITE: Ceiling(1e12, "measured"),
    }
    swept = predict(sweep_amounts("matmul", {"m": batches, "n": 4096, "k": 16}, BF16), roofs)
    singles = [predict(matmul(m, 4096, 16).amounts, roofs).napkin_s for m in batches]
    np.testing.assert_allclose(np.broadcast_to(swept.napkin_s, len(batches)), singles)
