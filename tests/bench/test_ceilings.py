import dataclasses

import pytest

from bench.ceilings import faster_dtype, measured_roofs
from bench.record import RoofSet, Status
from predict.resources import Ceiling, Resource
from tests.factories import ROOFS, make_record


def probe(op, dims, time_s, dtype="fp32", implementation="torch", **measured):
    """A record whose samples all take `time_s`."""
    roofs = RoofSet(datasheet={**ROOFS, Resource.VECTOR_FP32: Ceiling(1e12, "made up")}, measured={})
    record = make_record(op, dims, dtype=dtype, time_s=time_s, implementation=implementation, roofs=roofs)
    return dataclasses.replace(
        record, measurement=dataclasses.replace(record.measurement, **({"times_s": (time_s,)} | measured))
    )


def test_each_probe_gives_the_roof_of_its_own_mix():
    n = 10**9  # 4 GB
    roofs = measured_roofs(
        [
            probe("stream_read", {"n": n}, 1e-3),
            probe("stream_write", {"n": n}, 2e-3),
            probe("stream_copy", {"n": n}, 4e-3),
            probe("stream_triad", {"n": n}, 6e-3),
        ]
    )
    rates = {resource: roof.per_s for resource, roof in roofs.items()}
    assert rates == pytest.approx(
        {Resource.DRAM_READ: 4e12, Resource.DRAM_WRITE: 2e12, Resource.DRAM_COPY: 2e12, Resource.DRAM_TRIAD: 2e12}
    )


def test_the_best_of_several_probes_counts_and_is_named():
    roofs = measured_roofs(
        [
            probe("stream_read", {"n": 10**9}, 2e-3),
            probe("stream_read", {"n": 10**9}, 1e-3, implementation="triton"),
            probe("stream_read", {"n": 10**9}, 3e-3, implementation="dot"),
        ]
    )
    assert roofs[Resource.DRAM_READ].per_s == pytest.approx(4e12)
    assert "by triton" in roofs[Resource.DRAM_READ].source
    assert "measured 2026-01-01" in roofs[Resource.DRAM_READ].source


def test_the_fastest_tenth_counts_neither_the_median_nor_the_luckiest_sample():
    times_s = (1e-4, *(1e-3,) * 19, *(5e-3,) * 20)
    roofs = measured_roofs([probe("stream_read", {"n": 10**9}, 1e-3, times_s=times_s)])
    assert roofs[Resource.DRAM_READ].per_s == pytest.approx(4e12)


def test_matmuls_give_compute_roofs_and_matrix_vector_products_give_the_read_roof():
    square = probe("matmul", {"m": 1000, "n": 1000, "k": 1000}, 1e-3, dtype="bf16")
    vector = probe("matmul", {"m": 1, "n": 10_000, "k": 10_000}, 1e-3, dtype="fp32")
    roofs = measured_roofs([square, vector])
    assert roofs[Resource.TENSOR_BF16].per_s == pytest.approx(2e9 / 1e-3)
    assert roofs[Resource.DRAM_READ].per_s == pytest.approx(4 * (10**8 + 2 * 10**4) / 1e-3)
    assert roofs.keys() == {Resource.TENSOR_BF16, Resource.DRAM_READ}


def test_what_a_stream_reads_beside_its_writes_can_be_read_alone():
    n = 10**9  # 4 GB
    # The triad moves 12 GB in 2 ms and reads two thirds of them: 4 TB/s. The read itself came to 4 GB in 2 ms.
    roofs = measured_roofs([probe("stream_read", {"n": n}, 2e-3), probe("stream_triad", {"n": n}, 2e-3)])
    assert roofs[Resource.DRAM_READ].per_s == pytest.approx(4e12)
    assert "stream_triad" in roofs[Resource.DRAM_READ].source
    assert roofs[Resource.DRAM_TRIAD].per_s == pytest.approx(6e12)
    assert roofs[Resource.DRAM_WRITE].per_s == pytest.approx(2e12)


def test_bf16_has_no_lower_roof_than_fp32_in_which_it_can_be_computed():
    shape = {"m": 1000, "n": 1000, "k": 1000}  # 2 GFLOP
    fp32, bf16 = probe("matmul", shape, 1e-2), probe("matmul", shape, 4e-2, dtype="bf16")
    roofs = measured_roofs([fp32, bf16])
    assert roofs[Resource.TENSOR_BF16].per_s == roofs[Resource.VECTOR_FP32].per_s == pytest.approx(200e9)
    assert "tensor.bf16 itself reached 50.0 GFLOP/s: measured 2026" in roofs[Resource.TENSOR_BF16].source
    assert faster_dtype(roofs).name == "fp32"
    faster = measured_roofs([fp32, probe("matmul", shape, 5e-3, dtype="bf16")])
    assert faster[Resource.TENSOR_BF16].per_s == pytest.approx(400e9)


def test_a_warm_read_gives_l2_and_never_dram():
    roofs = measured_roofs([probe("stream_read", {"n": 10**6}, 1e-6, cold_l2=False)])
    assert roofs.keys() == {Resource.L2}


def test_failed_probes_and_empty_launches_give_no_roof():
    failed = dataclasses.replace(probe("stream_read", {"n": 100}, 1e-6), status=Status.CRASHED, measurement=None)
    assert measured_roofs([failed, probe("launch", {}, 1e-6)]) == {}


@pytest.mark.parametrize("status", [Status.IMPOSSIBLE, Status.THROTTLED, Status.INCORRECT])
def test_a_rate_that_was_objected_to_is_no_roof(status):
    """A copy of 8 GB in 3.5 us is 2,300 TB/s."""
    objected = dataclasses.replace(probe("stream_copy", {"n": 10**9}, 3.5e-6), status=status, reason="objected to")
    right = probe("stream_copy", {"n": 10**9}, 2e-3, implementation="triton")
    assert measured_roofs([objected]) == {}
    assert measured_roofs([objected, right])[Resource.DRAM_COPY].per_s == pytest.approx(4e12)


@pytest.mark.parametrize(("bf16", "dtype"), [(200e9, "bf16"), (50e9, "fp32"), (100e9, "fp32"), (None, "fp32")])
def test_bf16_is_chosen_only_where_it_is_faster(bf16, dtype):
    roofs = {Resource.VECTOR_FP32: Ceiling(100e9, "x")}
    if bf16:
        roofs[Resource.TENSOR_BF16] = Ceiling(bf16, "x")
    assert faster_dtype(roofs).name == dtype
