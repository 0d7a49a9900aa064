"""Measured points, and the kernels' curves under them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from bench import store
from bench.record import Status
from predict.__main__ import app
from predict.errors import BadRecord, BadRun, UnknownGpu
from predict.gpus import GPUS
from predict.resources import Resource
from reports.explore.curves import kernel_curve, sizes_between
from reports.explore.points import read_sources, varied
from tests.factories import ROOFS, make_record

CPU_RUN = Path(__file__).resolve().parents[3] / "reports" / "data" / "cpu-amd-epyc" / "2026-11-30-full"
H100 = "NVIDIA H100 80GB HBM3"


def table(path, rows, **changes):
    """A table of matmuls: rows of m, n, k and milliseconds."""
    frame = pd.DataFrame(rows, columns=["m", "n", "k", "latency"])
    common = {"op_name": "gemm", "gemm_dtype": "bfloat16", "kernel_source": "cublas", "device": H100}
    frame.assign(**{**common, **changes}).to_parquet(path)
    return path


def test_tables_of_a_gpu_are_one_source(tmp_path):
    first = table(tmp_path / "a.parquet", [(1, 64, 32, 0.5), (2, 64, 32, 1.0)])
    second = table(tmp_path / "b.parquet", [(4, 64, 32, 2.0), (4, 128, 32, 9.0)])
    (source,) = read_sources([], [first, second])
    assert (source.name, source.machine, source.gpu) == ("tables of h100-sxm", "h100-sxm", GPUS["h100-sxm"])
    points = list(source.points("matmul", "bf16", {"n": 64, "k": 32}))
    assert [(each.size, each.time_s, each.by) for each in points] == [
        (1, 0.0005, "cublas"),
        (2, 0.001, "cublas"),
        (4, 0.002, "cublas"),
    ]
    assert points[0].says == "500.0 us by cublas, tables of h100-sxm: matmul n 64, k 32, m 1 in bf16"
    assert list(source.points("matmul", "bf16", {"n": 65, "k": 32})) == []
    assert list(source.points("matmul", "fp8", {"n": 64, "k": 32})) == []


def test_a_family_is_a_kernel_measured_at_three_sizes_or_more(tmp_path):
    rows = [(m, 64, 32, 1.0) for m in (1, 2, 4, 4)] + [(m, 128, 32, 1.0) for m in (1, 2)]
    (source,) = read_sources([], [table(tmp_path / "a.parquet", rows)])
    (family,) = source.families
    assert (family.op, family.dtype, dict(family.fixed), family.sizes) == ("matmul", "bf16", {"n": 64, "k": 32}, 3)


def test_special_kernels_do_not_stand_for_the_plain_op(tmp_path):
    plain = table(tmp_path / "a.parquet", [(1, 64, 32, 1.0)])
    blocks = table(tmp_path / "b.parquet", [(1, 64, 32, 2.0)], gemm_dtype="fp8_block")
    (source,) = read_sources([], [plain, blocks])
    assert set(source.rows) == {("matmul", "bf16")}


def test_a_run_is_a_source_of_its_measured_rows(tmp_path):
    for m, status in ((1, Status.MEASURED), (2, Status.MEASURED), (4, Status.CRASHED)):
        record = make_record(dims={"m": m, "n": 64, "k": 32}, time_s=m * 1e-3, status=status, reason="it broke")
        store.append(tmp_path / store.RECORDS, record)
    (source,) = read_sources([tmp_path], [])
    assert source.gpu is GPUS["h200-sxm"]
    assert [(each.size, each.time_s, each.by) for each in source.points("matmul", "bf16", {"n": 64, "k": 32})] == [
        (1, 0.001, "torch"),
        (2, 0.002, "torch"),
    ]


def test_a_run_of_a_cpu_has_its_measured_roofs():
    (source,) = read_sources([CPU_RUN], [])
    assert source.gpu is None
    assert source.roofs[Resource.DRAM_READ].per_s > 0
    assert any(each.op == "matmul" for each in source.families)


def test_what_is_no_run_and_what_is_no_table_is_refused(tmp_path):
    file = table(tmp_path / "a.parquet", [(1, 64, 32, 1.0)])
    with pytest.raises(BadRun, match="give it to --tables"):
        read_sources([file], [])
    with pytest.raises(BadRun, match="give it to --run"):
        read_sources([], [CPU_RUN])
    with pytest.raises(BadRecord, match="no such file"):
        read_sources([], [tmp_path / "none.parquet"])
    with pytest.raises(BadRecord, match="no such file or folder"):
        read_sources([tmp_path / "none"], [])
    with pytest.raises(UnknownGpu):
        read_sources([], [table(tmp_path / "b.parquet", [(1, 64, 32, 1.0)], device="NVIDIA H999")])


def test_tables_without_a_row_to_draw_are_refused_and_so_is_one_given_twice(tmp_path):
    blocks = table(tmp_path / "a.parquet", [(1, 64, 32, 2.0)], gemm_dtype="fp8_block")
    with pytest.raises(BadRecord, match=r"a\.parquet: no row can be drawn"):
        read_sources([], [blocks])
    with pytest.raises(BadRun, match="is given twice"):
        read_sources([], [blocks, tmp_path / "." / "a.parquet"])


def test_without_any_there_is_no_source():
    assert read_sources([], []) == ()


def test_the_dimension_that_an_op_is_drawn_over():
    assert [varied(op) for op in ("matmul", "attention_prefill", "attention_decode", "rmsnorm", "no_op")] == [
        "m",
        "seq",
        "context",
        None,
        None,
    ]


def test_the_curve_is_the_larger_of_memory_and_flop():
    """At 100 TFLOP/s and 1 TB/s: 2mnk FLOP; 2(mk + kn + mn) bytes."""
    n, k = 4096, 1024
    curve = kernel_curve("matmul", "bf16", {"n": n, "k": k}, "m", [1, 64, 4096], None, ROOFS)
    m = np.array([1, 64, 4096])
    compute_s, memory_s = 2 * m * n * k / 100e12, 2 * (m * k + k * n + m * n) / 1e12
    assert curve.compute_s == pytest.approx(compute_s)
    assert curve.memory_s == pytest.approx(memory_s)
    assert curve.bound_s == pytest.approx(np.maximum(compute_s, memory_s))
    assert curve.expected_s is None
    assert "no kernel of this machine was calibrated" in curve.basis


@pytest.mark.parametrize(
    ("op", "fixed", "vary", "sizes"),
    [
        ("matmul", {"n": 6144, "k": 4096}, "m", [1, 37, 512]),
        ("attention_prefill", {"batch": 2, "heads": 32, "kv_heads": 8, "head_dim": 128}, "seq", [128, 3000]),
        ("attention_decode", {"batch": 2, "heads": 32, "kv_heads": 8, "head_dim": 128}, "context", [100, 8192]),
    ],
)
@pytest.mark.parametrize("gpu", ["h100-sxm", "b200", "rtx-4090"])
def test_a_curve_goes_through_what_the_command_prints(op, fixed, vary, sizes, gpu):
    curve = kernel_curve(op, "bf16", fixed, vary, sizes, GPUS[gpu], GPUS[gpu].roofs)
    for place, size in enumerate(sizes):
        dims = [f"{name}={each}" for name, each in {**fixed, vary: size}.items()]
        printed = json.loads(CliRunner().invoke(app, ["kernel", op, *dims, "--gpu", gpu, "--json"]).stdout)
        assert curve.bound_s[place] == printed["napkin_s"]
        for key, times_s in (("expected_s", curve.expected_s), ("refined_s", curve.refined_s)):
            # One size alone and among others may differ in the last bit.
            assert (times_s if times_s is None else float(times_s[place])) == pytest.approx(printed[key], rel=1e-15)


def test_sizes_are_whole_and_go_through_those_asked_for():
    sizes = sizes_between(1, 4096, 333, 9999)
    assert sizes == sorted(set(sizes))
    assert (sizes[0], sizes[-1]) == (1, 4096)
    assert 333 in sizes
    assert 9999 not in sizes
