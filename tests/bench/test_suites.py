import dataclasses
import itertools

import pytest

from bench.cases import CASES, IMPLEMENTATIONS, implementation_names
from bench.suites import (
    BF16,
    CPU_LAUNCH_LIMIT_S,
    FP8,
    FP32,
    GPT2_ROW_WISE,
    INT8,
    ROW_WISE,
    SUITES,
    Limits,
    RowWise,
    l2_roof_probe,
    roof_probes,
    row_wise,
    suite,
)
from predict.errors import BadRun
from predict.expected.probes import PROBES, probe_workloads
from predict.gpus import GPUS
from predict.resources import WRITTEN_SHARE, Ceiling, Resource
from predict.roofline import predict
from predict.workloads import OPS, complete_dims, make_workload
from reports.run.rules import RULES

H200 = Limits("cuda", 143771 * 2**20, 60 * 2**20, BF16)
CPU_ROOFS = {
    Resource.VECTOR_FP32: Ceiling(100e9, "x"),
    Resource.TENSOR_BF16: Ceiling(10e9, "x"),
    **dict.fromkeys(WRITTEN_SHARE, Ceiling(10e9, "x")),
}
CPU = Limits("cpu", 16 * 2**30, 32 * 2**20, FP32, CPU_ROOFS)


GROWING = ("smoke", "quick", "standard", "full")


@pytest.mark.parametrize("limits", [H200, CPU], ids=["gpu", "cpu"])
@pytest.mark.parametrize("name", SUITES)
def test_a_suite_names_each_workload_once(name, limits):
    workloads = suite(name, limits)
    assert len({workload.id for workload in workloads}) == len(workloads)


@pytest.mark.parametrize("limits", [H200, CPU], ids=["gpu", "cpu"])
@pytest.mark.parametrize("name", GROWING)
def test_a_suite_covers_the_three_families(name, limits):
    workloads = suite(name, limits)
    families = {"matmul", "attention_prefill", "attention_decode", "generate_cached", "generate_uncached"}
    assert {workload.op for workload in workloads} >= families


ROW_OPS = {row.op for row in ROW_WISE}
ALL_ROW_OPS = ROW_OPS | {row.op for row in GPT2_ROW_WISE}
QUANTIZED = {"matmul_w8a16", "matmul_w4a16", "matmul_scaled"}


@pytest.mark.parametrize(
    ("name", "limits", "ops"),
    [
        ("quick", H200, ROW_OPS | QUANTIZED),
        *((name, H200, ALL_ROW_OPS | QUANTIZED) for name in ("standard", "full", "kernels")),
        ("kernels", CPU, ROW_OPS | QUANTIZED),
        ("standard", CPU, ALL_ROW_OPS | {"matmul_w8a16"}),
    ],
)
def test_a_suite_covers_quantized_and_row_wise_kernels(name, limits, ops):
    assert {workload.op for workload in suite(name, limits)} >= ops


def test_the_kernels_suite_streams_weights_over_four_times_the_l2_cache():
    """57344 x 8192 in bf16 is 940 MB; an H200's L2 is 60 MiB, 63 MB."""
    sizes = {
        workload.dims["n"] * workload.dims["k"] * 2 for workload in suite("kernels", H200) if workload.op == "matmul"
    }
    assert 57344 * 8192 * 2 in sizes
    assert max(sizes) > 4 * 60 * 2**20


def test_long_suites_hold_whole_steps_of_two_models():
    sizes = {
        "standard": ([1024], [(1, 8192), (64, 8192)]),
        "full": ([1024, 4096], [*itertools.product((1, 8, 64), (1024, 8192))]),
    }
    for name, (prompts, caches) in sizes.items():
        steps = [workload for workload in suite(name, H200) if workload.op.startswith("block_")]
        for heads, head_dim, inner in ((12, 64, 2048), (32, 128, 14336)):
            dims = [(each.op, each.dims) for each in steps if each.dims["inner"] == inner]
            assert {(each["heads"], each["head_dim"]) for _, each in dims} == {(heads, head_dim)}
            for op in ("block_forward", "block_train"):
                found = [each["seq"] for found, each in dims if found == op and "layers" not in each]
                assert [seq for seq in dict.fromkeys(found) if seq != 16] == prompts  # 16: the memory of a parameter
            assert [(each["batch"], each["context"]) for found, each in dims if found == "block_decode"] == caches
    small = [each for each in suite("standard", dataclasses.replace(CPU, roofs=None)) if each.op.startswith("block_")]
    assert {each.op for each in small} == {"block_forward", "block_decode", "block_train"}
    assert {each.dtype.name for each in small if each.op == "block_train"} == {"bf16"}


@pytest.mark.parametrize("limits", [H200, CPU], ids=["gpu", "cpu"])
def test_suites_grow(limits):
    sizes = [len(suite(name, limits)) for name in GROWING]
    assert sizes == sorted(sizes)


def test_every_op_has_a_case_an_implementation_and_a_place_where_it_is_measured():
    assert CASES.keys() == OPS.keys()
    measured = {workload.op for name in SUITES for workload in suite(name, H200)}
    measured |= {each.op for each in roof_probes(H200)}
    for op in OPS:
        assert op in measured, f"{op} stands in no suite: bench/suites.py"
        for device in ("cpu", "cuda"):
            assert implementation_names(op, device), f"{op} has no implementation for {device}: kernels/catalog.py"
    assert not [row.op for row in IMPLEMENTATIONS if row.name.startswith("triton") and "cpu" in row.devices]


def test_a_row_says_that_the_smoke_suite_holds_its_op(monkeypatch):
    row = RowWise("softmax", (1024,), smoke=True)
    monkeypatch.setattr("bench.suites.ROW_WISE", (RowWise("rmsnorm", (4096,)), row))
    (only,) = row_wise((64,), BF16, smoke=True)
    assert only.id == "softmax-rows64-cols1024-bf16"
    assert only in row_wise((64,), BF16)
    assert only.id in {dataclasses.replace(each, dtype=BF16).id for each in suite("smoke", CPU)}


def test_no_op_has_two_implementations_of_one_name_dtype_and_device():
    keys = [
        (row.op, row.name, dtype, device) for row in IMPLEMENTATIONS for dtype in row.dtypes for device in row.devices
    ]
    assert len(set(keys)) == len(keys)


def test_the_gpu_suite_crosses_the_ridge_of_every_data_center_card():
    for name in ("a100-sxm-80gb", "h100-sxm", "h200-sxm", "b200"):
        bounds = {predict(w.amounts, GPUS[name].roofs).bound for w in suite("quick", H200) if w.op == "matmul"}
        assert bounds == {Resource.DRAM, Resource.TENSOR_BF16}, name


def test_the_standard_suite_spans_what_was_promised():
    dims = [workload.dims for workload in suite("standard", H200)]
    assert {1, 8192} <= {d["m"] for d in dims if "m" in d}
    assert {512, 16384} <= {d["seq"] for d in dims if "seq" in d}
    assert {1, 256} <= {d["batch"] for d in dims if "context" in d and "batch" in d}
    assert {128, 1024, 32768, 131072} <= {d["context"] for d in dims if "context" in d}
    assert {64, 128} <= {d["head_dim"] for d in dims if "head_dim" in d}
    assert {"bf16", "fp16", "fp32", "tf32"} <= {w.dtype.name for w in suite("standard", H200)}


def test_what_calibrates_is_measured_by_a_suite_of_its_own_and_by_the_long_ones():
    probes_of = {op: {w.id for w in probe_workloads(op, BF16)} for op in PROBES}
    assert {w.id for w in suite("calibration", H200)} == set().union(*probes_of.values())
    for name in ("standard", "full"):
        assert {w.id for w in suite("calibration", H200)} <= {w.id for w in suite(name, H200)}


def test_on_a_cpu_the_same_shapes_are_measured_in_its_dtype():
    assert {w.dtype for w in suite("calibration", CPU)} == {FP32}
    everything = dataclasses.replace(CPU, roofs=None)
    assert [w.dims for w in suite("calibration", everything)] == [w.dims for w in suite("calibration", H200)]


def test_a_cpu_suite_leaves_out_what_the_machine_is_too_slow_for():
    slow = dataclasses.replace(CPU, roofs=CPU_ROOFS | {Resource.VECTOR_FP32: Ceiling(10e9, "x")})
    for name in SUITES:
        assert len(suite(name, slow)) < len(suite(name, CPU)) or name == "smoke"
        known = [workload for workload in suite(name, slow) if workload.dtype not in (FP8, INT8)]  # no roof, no limit
        for workload in known:
            assert predict(workload.amounts, slow.roofs).napkin_s <= CPU_LAUNCH_LIMIT_S[name]


def test_the_cpu_weight_is_over_twice_the_cache():
    for cache_bytes in (8 * 2**20, 105 * 2**20, 512 * 2**20):
        limits = dataclasses.replace(CPU, last_level_cache_bytes=cache_bytes, roofs=None)
        weights = [w.dims["n"] * w.dims["k"] * 4 for w in suite("quick", limits) if w.op == "matmul"]
        assert min(weights) > 2 * cache_bytes


def test_the_probes_measure_every_access_mix_and_the_launch_floor():
    for limits in (H200, CPU):
        ops = {workload.op for workload in roof_probes(limits)}
        assert ops >= {"launch", "stream_read", "stream_write", "stream_copy", "stream_triad", "matmul"}
        streams = [workload for workload in roof_probes(limits) if workload.op.startswith("stream")]
        assert all(float(workload.amounts.bytes) > 2 * limits.last_level_cache_bytes for workload in streams)


def test_probes_fit_in_a_small_card():
    small = dataclasses.replace(H200, memory_bytes=8 * 2**30)
    assert all(float(workload.amounts.bytes) < 2 * 2**30 for workload in roof_probes(small))


def test_the_l2_probe_fits_in_half_the_cache():
    assert l2_roof_probe(H200).amounts.bytes_read == 30 * 2**20
    assert l2_roof_probe(dataclasses.replace(H200, last_level_cache_bytes=None)) is None


def test_an_unknown_suite_lists_the_known_ones():
    with pytest.raises(BadRun, match="no suite 'huge'; known: smoke, quick, standard, full, kernels, calibration"):
        suite("huge", H200)


@pytest.mark.parametrize("name", ["standard", "full", "kernels"])
def test_every_rule_of_thumb_finds_both_of_its_rows(name):
    """What the bars of the kernels are read from; whole steps and generation are not what kernels are judged by."""
    workloads = {each.id: each for each in suite(name, H200)}

    def has_base(rule, each):
        base = rule.base(complete_dims(each.op, each.dims)) if each.op == rule.op else None
        return base is not None and make_workload(*base, each.dtype).id in workloads

    for rule in RULES:
        found = any(has_base(rule, each) for each in workloads.values())
        whole = ("block_train", "generate_uncached", "serve_static", "generate_drafted")
        assert found or (name == "kernels" and rule.op in whole), rule.name
