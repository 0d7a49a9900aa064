import pytest

from kernels.triton.attention.prefill import SUPPORTED_HEAD_DIMS
from predict.expected.probes import MATMUL_PROBES, PROBES, probe_workloads
from predict.units import find_dtype

BF16 = find_dtype("bf16")


@pytest.mark.parametrize("op", PROBES)
def test_an_op_has_sixteen_probes_each_of_a_shape_of_its_own(op):
    workloads = probe_workloads(op, BF16)
    assert len({workload.id for workload in workloads}) == 16
    assert {workload.op for workload in workloads} == {op}


def test_an_op_without_a_form_has_no_probes():
    assert probe_workloads("stream_copy", BF16) == ()


@pytest.mark.parametrize("op", PROBES)
def test_a_probe_fits_on_a_card_of_8_gb_and_its_bytes_cross_in_milliseconds(op):
    for workload in probe_workloads(op, BF16):
        # 4 GiB of keys and values at most, and the queries beside them.
        assert workload.amounts.bytes <= 4.1 * 2**30
        # At most the 1.1 TFLOP of an 8192-cubed matmul, or the scores of 64 heads over 8192 tokens: 4 x 64 x 128 x
        # 8192 x 8193 / 2 = 1.1e12.
        assert workload.amounts.flop <= 1.11e12


@pytest.mark.parametrize("op", ["attention_prefill", "attention_decode"])
def test_a_probe_of_attention_has_heads_that_every_kernel_takes(op):
    for workload in probe_workloads(op, BF16):
        assert workload.dims["head_dim"] in SUPPORTED_HEAD_DIMS


def test_the_probes_of_a_matmul_reach_from_a_launch_to_a_full_machine():
    flop = [2 * m * n * k for m, n, k in MATMUL_PROBES]
    assert min(flop) < 1e-6 * max(flop)
