"""Validation on tables made by hand: groups, probes, errors, what is left out and why; and the command line."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from predict.errors import BadRecord, NapkinError
from predict.expected.kernel import expect
from predict.expected.time_model import Machine
from predict.gpus import GPUS
from predict.units import Formats, find_dtype
from reports.__main__ import app
from reports.accuracy.importers import read_tables
from reports.accuracy.validate import group_json, over_the_bar, usual_heads, validate, worst_rows
from reports.calibration.errors import errors
from tests.calibrations import CALIBRATIONS

RUNNER = CliRunner()
H100 = "NVIDIA H100 80GB HBM3"
COMMON = {"framework": "VLLM", "version": "1", "device": H100, "kernel_source": "some kernel"}
SIZES = (16, 64, 256, 1024, 4096, 8192)
LARGE = (100, 300, 700, 1500, 3000, 5000)  # none so small that L2 keeps it and the bound is beaten


def matmul_times(m, n, k):
    machine = Machine.of(GPUS["h100-sxm"], find_dtype("bf16"))
    dims = {"m": m, "n": n, "k": k}
    return expect(dims, machine, Formats(), CALIBRATIONS["h100-sxm", "matmul", "bf16"]).time_s


def gemm_rows(noise=0.05, dtype="bfloat16", sizes=SIZES, **changes):
    """Times as the calibrated form has them, with noise: 216 shapes."""
    m, n, k = np.array(list(itertools.product(sizes, sizes, sizes))).T
    time_s = matmul_times(m, n, k) * np.exp(np.random.default_rng(1).normal(0, noise, len(m)))
    frame = pd.DataFrame({"m": m, "n": n, "k": k, "latency": time_s * 1e3})
    return frame.assign(**{**COMMON, "op_name": "gemm", "gemm_dtype": dtype, **changes})


def written(folder, *frames, name="h100_gemm"):
    path = folder / f"{name}.parquet"
    pd.concat(frames, ignore_index=True).to_parquet(path)
    return path


def validated(folder, *frames, gpu=None):
    return validate(read_tables([written(folder, *frames)]), gpu)


def test_sixteen_rows_calibrate_and_the_others_are_judged(tmp_path):
    (group,) = validated(tmp_path, gemm_rows()).groups
    assert (group.table, group.op, group.gpu, group.dtype, group.kv_dtype) == (
        "h100_gemm",
        "matmul",
        "h100-sxm",
        "bf16",
        None,
    )
    assert group.rows["is_probe"].sum() == 16
    assert len(group.judged) == 216 - 16
    found = errors(group.judged)
    # Noise of 5 % has a mean of 0.05 * sqrt(2/pi) = 4.0 %; what 16 rows cannot tell comes on top.
    assert 0.035 < found.mape_expected < 0.08
    assert found.within_30_percent == 1
    assert found.mape_napkin > 0.3


def test_errors_by_hand():
    rows = pd.DataFrame(
        {"time_s": [1.0, 2.0, 4.0, 1.0], "expected_s": [1.1, 1.0, 4.0, 1.0], "napkin_s": [0.5, 1.0, 5.0, 1.0]}
    )
    found = errors(rows)
    # expected: 10, 50, 0, 0 %; napkin: 50, 50, 25, 0 %, and one row under the bound.
    assert (found.rows, found.faster_than_bound) == (4, 1)
    assert found.mape_expected == pytest.approx(0.15)
    assert found.median_error == pytest.approx(0.05)
    assert found.p90_error == pytest.approx(0.1 + 0.7 * 0.4)  # between the third and the fourth of four
    assert found.within_30_percent == 0.75
    assert found.mape_napkin == pytest.approx(0.3125)


def test_the_same_table_in_another_order_gives_the_same_answer(tmp_path):
    straight = gemm_rows()
    (first,) = validated(tmp_path, straight).groups
    (second,) = validated(tmp_path, straight.sample(frac=1, random_state=2)).groups
    assert first.calibration == second.calibration
    pd.testing.assert_frame_equal(first.rows, second.rows)


def test_repeated_shapes_are_merged_by_their_median(tmp_path):
    once = gemm_rows()
    slow, quick = once.assign(latency=once["latency"] * 3), once.assign(latency=once["latency"] / 1.1)
    (group,) = validated(tmp_path, once, slow, quick).groups
    assert len(group.rows) == 216
    np.testing.assert_allclose(np.sort(group.rows["time_s"]), np.sort(once["latency"] * 1e-3))
    assert group.skipped == {"probe": 16, "repeated shape, merged by its median": 432}


def test_formats_and_kernels_are_groups_of_their_own_and_small_ones_are_counted(tmp_path):
    validation = validated(
        tmp_path,
        gemm_rows(),
        gemm_rows(dtype="fp8"),
        gemm_rows(kernel_source="another"),
        gemm_rows(dtype="fp8_block").head(199),
    )
    assert {(group.dtype, group.kernel_source) for group in validation.groups} == {
        ("bf16", "another"),
        ("bf16", "some kernel"),
        ("fp8", "some kernel"),
    }
    assert validation.skipped == {("h100_gemm", "group of fewer than 200 shapes"): 199}
    assert group_json(validation.groups[0], validation.skipped)["rows_skipped"] == {
        "probe": 16,
        "group of fewer than 200 shapes": 199,
    }


def test_formats_computed_in_16_bits_are_not_called_bf16(tmp_path):
    (group,) = validated(tmp_path, gemm_rows(dtype="int8_wo")).groups
    assert group.dtype == "int8_wo"
    assert over_the_bar([group]) == []  # and are held to no bar


def test_a_format_without_a_peak_is_a_reason_not_a_crash(tmp_path):
    a100 = {"device": "NVIDIA A100-SXM4-80GB"}
    slow = gemm_rows().assign(latency=lambda rows: rows["latency"] * 4, **a100)  # an A100 has a third of the peak
    validation = validated(tmp_path, slow, slow.assign(gemm_dtype="fp8"))
    assert [group.dtype for group in validation.groups] == ["bf16"]
    (reason,) = (reason for _, reason in validation.skipped)
    assert "no tensor.fp8 roof" in reason


def test_the_device_must_be_the_gpu_that_was_named(tmp_path):
    assert validated(tmp_path, gemm_rows(), gpu="h100").groups
    with pytest.raises(BadRecord, match=r"h100_gemm was measured on .*H100.*not on --gpu h200"):
        validated(tmp_path, gemm_rows(), gpu="h200")


def test_nothing_to_validate_says_why(tmp_path):
    with pytest.raises(
        BadRecord, match=r"nothing can be validated: h100_gemm: group of fewer than 200 shapes \(50 rows\)"
    ):
        validated(tmp_path, gemm_rows().head(50))


def test_rows_under_the_bound_are_counted_and_listed(tmp_path):
    fast = gemm_rows(noise=0)
    (before,) = validated(tmp_path, fast).groups
    row = fast.index[(fast["m"] == 64) & (fast["n"] == 8192) & (fast["k"] == 4096)][0]
    fast.loc[row, "latency"] = 0.01  # 68.7 MB at 3.35 TB/s take 20.5 us, 4.3e9 FLOP at 989.4 TFLOP/s 4.3 us
    impossible = fast.index[(fast["m"] == 8192) & (fast["n"] == 8192) & (fast["k"] == 8192)][0]
    fast.loc[impossible, "latency"] = 0.9  # 1.1e12 FLOP at 132 x 4096 x 1980 MHz take 1.027 ms
    validation = validated(tmp_path, fast)
    (group,) = validation.groups
    assert validation.skipped == {("h100_gemm", "faster than the highest rates of the GPU allow"): 1}
    assert len(group.rows) == 215
    entry = group_json(group, {})
    assert entry["faster_than_bound"] == errors(before.judged).faster_than_bound + 1
    furthest = entry["faster_than_bound_rows"][0]
    assert (furthest["m"], furthest["n"], furthest["k"]) == (64, 8192, 4096)


def test_a_bar_that_is_missed_is_named(tmp_path):
    (good,) = validated(tmp_path, gemm_rows(noise=0, sizes=LARGE)).groups
    assert over_the_bar([good]) == []
    (bad,) = validated(tmp_path, gemm_rows(noise=0.3)).groups
    assert over_the_bar([bad])[0].startswith("matmul bf16 on h100-sxm (h100_gemm): expected time is off by")


def test_the_worst_rows_say_whether_the_row_or_its_region_is_off(tmp_path):
    odd = gemm_rows(noise=0)
    alone = odd.index[(odd["m"] == 256) & (odd["n"] == 1024) & (odd["k"] == 256)][0]
    odd.loc[alone, "latency"] *= 5
    region = odd["n"] == 16
    odd.loc[region, "latency"] *= 2.5
    (group,) = validated(tmp_path, odd).groups
    worst = worst_rows(group, 20).set_index(["m", "n", "k"])
    assert len(worst) == 20
    assert worst.loc[(256, 1024, 256), "why"] == "this row alone: its neighbors are as expected"
    slow = worst[worst.index.get_level_values("n") == 16]
    assert slow["why"].str.startswith("its region is slower than the model predicts").any()


def collective_rows(ops, gpus, powers, **changes):
    rows = [
        {"op_name": op, "num_gpus": n, "message_size": 2**power, "latency": (10 + 2**power * 2 / 3e8) * 1e-3}
        for op in ops
        for n in gpus
        for power in powers
    ]
    return pd.DataFrame(rows).assign(**COMMON, **changes)


def test_a_collective_needs_a_sweep_of_sizes_not_many_shapes(tmp_path):
    ops = ("all_reduce", "all_gather", "reduce_scatter", "alltoall")
    validation = validated(tmp_path, collective_rows(ops, (2, 4), range(8, 29), nccl_dtype="half"))
    assert {group.op for group in validation.groups} == {"all_reduce", "all_gather", "reduce_scatter", "all_to_all"}
    assert {len(group.judged) for group in validation.groups} == {2 * 21 - 16}
    with pytest.raises(BadRecord, match=r"fewer than 200 shapes \(33 rows\)"):
        validated(tmp_path, collective_rows(ops[:1], (2, 4, 8), range(8, 19), nccl_dtype="half"))


def test_at_most_half_of_a_small_sweep_are_probes(tmp_path):
    (group,) = validated(tmp_path, collective_rows(["all_reduce"], (4,), range(8, 29), nccl_dtype="half")).groups
    assert (group.rows["is_probe"].sum(), len(group.judged)) == (10, 11)


def test_eager_and_graph_kernels_of_an_engine_are_groups_of_their_own(tmp_path):
    """Their table names them by `kernel_source`; one that does not is told apart by its `backend`."""
    graph, eager = (
        collective_rows(["all_reduce"], (2, 4, 8), range(7, 30), allreduce_dtype="bfloat16", backend=backend)
        for backend in ("graph", "eager")
    )
    named = (graph.assign(kernel_source="custom_graph"), eager.assign(kernel_source="custom_eager"))
    for tables, names in (
        (named, {"custom_graph", "custom_eager"}),
        ((graph, eager), {"some kernel, graph", "some kernel, eager"}),
    ):
        groups = validated(tmp_path, *tables).groups
        assert {each.kernel_source for each in groups} == names
        assert [len(each.judged) for each in groups] == [69 - 16, 69 - 16]


def test_attention_reports_usual_heads_apart(tmp_path):
    shapes = itertools.product((1, 8, 64), (128, 1024, 8192), (8, 32), (8,), (64, 128, 256, 512), (0,))
    decode = pd.DataFrame(
        shapes, columns=["batch_size", "step", "num_heads", "num_key_value_heads", "head_dim", "window_size"]
    )
    decode = pd.concat([decode.assign(step=decode["step"] * scale) for scale in (1, 2, 4)]).drop_duplicates()
    decode["latency"] = 0.02 + decode["batch_size"] * decode["step"] * decode["head_dim"] * 32 / 3e9
    names = {"op_name": "generation_attention", "attn_dtype": "bfloat16", "kv_cache_dtype": "bfloat16", "isl": 1}
    (group,) = validated(tmp_path, decode.assign(**COMMON, **names)).groups
    entry = group_json(group, {})
    assert 0 < len(usual_heads(group.judged)) < entry["rows"]
    assert entry["mape_expected_head_dim_to_256"] != entry["mape_expected"]
    assert group.rows.loc[group.rows["is_probe"], "head_dim"].max() <= 256


KEYS = """table op gpu dtype kv_dtype window kernel_source rows rows_skipped calibration mape_napkin mape_expected
median_error p90_error within_30_percent faster_than_bound""".split()


def test_the_command_prints_a_list_of_groups(tmp_path):
    path = written(tmp_path, gemm_rows())
    result = RUNNER.invoke(app, ["validate", str(path), "--gpu", "h100", "--json"], catch_exceptions=False)
    (entry,) = json.loads(result.stdout)
    assert [key for key in KEYS if key not in entry] == []
    assert entry["calibration"]["launch_s"]["unit"] == "s"
    assert entry["calibration"]["launch_s"]["rows"] == 16
    assert entry["window"] is False
    text = RUNNER.invoke(app, ["validate", str(path)], catch_exceptions=False).output
    assert "matmul bf16 on h100-sxm" in text


@pytest.mark.parametrize("spelled", ["bfloat16", "BF16", "torch.bfloat16", "bf16"])
def test_a_spelling_of_a_format_passes_no_gate(tmp_path, spelled):
    rows = gemm_rows(dtype=spelled)
    slow = rows.assign(latency=rows["latency"] * np.where(np.arange(len(rows)) % 3 == 0, 3, 1))
    (group,) = validated(tmp_path, slow).groups
    assert (group.dtype, group.relative.known is None) == ("bf16", False)
    assert over_the_bar([group])[0].startswith("matmul bf16 on h100-sxm")


def test_the_gate_fails_a_run_that_misses_its_bar(tmp_path):
    good = written(tmp_path, gemm_rows(noise=0, sizes=LARGE), name="good")
    bad = written(tmp_path, gemm_rows(noise=0.3), name="bad")
    assert RUNNER.invoke(app, ["validate", str(good), "--gate"]).exit_code == 0
    result = RUNNER.invoke(app, ["validate", str(good), str(bad), "--gate"])
    assert result.exit_code == 1
    assert "matmul bf16 on h100-sxm (bad)" in result.stderr
    assert "(good)" not in result.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "NVIDIA H900"}, "device .NVIDIA H900. of the table"),
        ({"gemm_dtype": None}, "gemm_dtype"),
    ],
)
def test_a_table_that_is_not_understood_is_refused_by_name(tmp_path, change, message):
    frame = gemm_rows().drop(columns=[name for name, value in change.items() if value is None])
    frame = frame.assign(**{name: value for name, value in change.items() if value is not None})
    with pytest.raises(NapkinError, match=message):
        RUNNER.invoke(app, ["validate", str(written(tmp_path, frame))], catch_exceptions=False)
