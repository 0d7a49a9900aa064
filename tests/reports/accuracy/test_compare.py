"""Bounds are derived by hand from the datasheets: A100 312 TFLOP/s bf16, 2.039 TB/s, 300 GB/s a link; H100 989.4 and
1978.9 (fp8) TFLOP/s, 3.35 TB/s, 450 GB/s."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predict.errors import BadRecord
from predict.gpus import GPUS
from predict.roofline import predict
from predict.units import find_dtype
from predict.workloads import dim_names, make_workload
from reports.accuracy import shapes as measured_shapes
from reports.accuracy.columns import DIMS
from reports.accuracy.compare import compare_tables, draw_shares, op_tables, side_letter
from reports.accuracy.importers import MeasuredTables
from reports.accuracy.shapes import merge_repeats, napkin_s, shapes_of
from reports.figures import NothingToDraw, to_png

A100, H100 = "a100-sxm-80gb", "h100-sxm"
HEADS = {"heads": 32, "kv_heads": 8, "head_dim": 128}


def row(op="matmul", gpu=A100, dtype="bf16", time_s=1e-3, **fields):
    """A row of `MeasuredTables.frame`; what is not given follows from the format computed with."""
    kv = {"kv_dtype": dtype if op.startswith("attention") else None}
    texts = {"table": gpu, "device": gpu, "weight_dtype": dtype, "dtype_text": dtype, "format": dtype, **kv}
    dims = dict.fromkeys(DIMS)
    return {**texts, **dims, "op": op, "gpu": gpu, "dtype": dtype, "window": 0, "kernel_source": "k"} | {
        **fields,
        "time_s": time_s,
    }


def make_frame(*rows):
    frame = pd.DataFrame(rows)
    return frame.astype(dict.fromkeys((*DIMS, "window"), "Int64"))


def bound_s(*args, **fields):
    ((bound,), _) = napkin_s(make_frame(row(*args, **fields)))
    return bound


# Few rows: memory decides. 16 x 4096 activations and results, 4096 x 4096 weights.
THIN = {"m": 16, "n": 4096, "k": 4096}
# 8192 cubed: arithmetic decides in every format. 2 * 8192^3 = 2^40 FLOP.
WIDE = {"m": 8192, "n": 8192, "k": 8192}


@pytest.mark.parametrize(
    ("gpu", "formats", "expected_s"),
    [
        # 2 bytes of 2 * 65,536 + 16,777,216 elements.
        (A100, {"dtype": "bf16"}, 2 * 16_908_288 / 2.039e12),
        (H100, {"dtype": "bf16"}, 2 * 16_908_288 / 3.35e12),
        # Weights in 1 byte, or half a byte; activations and results stay in 2.
        (A100, {"dtype": "bf16", "weight_dtype": "int8"}, (262_144 + 16_777_216) / 2.039e12),
        (A100, {"dtype": "bf16", "weight_dtype": "int4"}, (262_144 + 8_388_608) / 2.039e12),
        (H100, {"dtype": "fp8"}, 16_908_288 / 3.35e12),
    ],
)
def test_few_rows_wait_for_the_weights_in_their_own_format(gpu, formats, expected_s):
    assert bound_s(gpu=gpu, **formats, **THIN) == pytest.approx(expected_s)


@pytest.mark.parametrize(
    ("gpu", "formats", "flop_per_s"),
    [
        (A100, {"dtype": "bf16"}, 312e12),
        (A100, {"dtype": "int8"}, 624e12),
        # Stored in fewer bits, multiplied in 16.
        (A100, {"dtype": "bf16", "weight_dtype": "int8"}, 312e12),
        (A100, {"dtype": "bf16", "weight_dtype": "int4"}, 312e12),
        (H100, {"dtype": "bf16"}, 989.4e12),
        (H100, {"dtype": "fp8"}, 1978.9e12),
    ],
)
def test_the_format_computed_with_decides_the_peak(gpu, formats, flop_per_s):
    assert bound_s(gpu=gpu, **formats, **WIDE) == pytest.approx(2**40 / flop_per_s)


def test_a_window_takes_pairs_from_a_prompt():
    # Query i meets min(i, 1024) of 4096 keys: 1024 * 1025 / 2 + 3072 * 1024 = 3,670,528 pairs for each of 32 heads.
    dims = {"batch": 1, "seq": 4096, **HEADS}
    bound = bound_s("attention_prefill", **dims, window=1024)
    assert bound == pytest.approx(4 * 32 * 128 * 3_670_528 / 312e12)
    # Without one: 4096 * 4097 / 2 = 8,390,656 pairs.
    assert bound_s("attention_prefill", **dims) == pytest.approx(4 * 32 * 128 * 8_390_656 / 312e12)


def test_a_window_takes_keys_from_a_decode_step_and_fp8_halves_them():
    # 2 requests, keys and values of 256 tokens, 8 heads of 128: 1,048,576 elements; Q and O 2 * 2 * 32 * 128 = 16,384.
    dims = {"batch": 2, "context": 1024, "window": 256, **HEADS}
    assert bound_s("attention_decode", H100, **dims) == pytest.approx(2 * (1_048_576 + 16_384) / 3.35e12)
    fp8 = bound_s("attention_decode", H100, **dims, kv_dtype="fp8")
    assert fp8 == pytest.approx((1_048_576 + 2 * 16_384) / 3.35e12)


def test_an_fp8_cache_is_read_as_such_in_a_prompt_too():
    # 256 prompts of 16 tokens: Q and O 2 * 32, K and V 2 * 8 heads of 128, each for 4096 tokens.
    dims = {"batch": 256, "seq": 16, **HEADS}
    bound = bound_s("attention_prefill", H100, **dims, kv_dtype="fp8")
    assert bound == pytest.approx(4096 * 128 * (2 * 32 * 2 + 2 * 8 * 1) / 3.35e12)


@pytest.mark.parametrize(
    ("op", "gpu", "sent", "link"),
    [
        # Only the switch of the H100 reduces: 1 + 1/8, where a ring sends 2 * 7/8.
        ("all_reduce", A100, 7 / 4, 300e9),
        ("all_reduce", H100, 9 / 8, 450e9),
        *((op, A100, 7 / 8, 300e9) for op in ("all_gather", "reduce_scatter", "all_to_all")),
        *((op, H100, 7 / 8, 450e9) for op in ("all_gather", "reduce_scatter", "all_to_all")),
    ],
)
def test_a_collective_waits_for_the_link_in_one_direction(op, sent, gpu, link):
    bound = bound_s(op, gpu, "fp16", gpus=8, message_bytes=2**20)
    assert bound == pytest.approx(sent * 2**20 / link)


def test_a_gpu_without_the_roof_has_no_bound_and_says_why():
    frame = make_frame(
        row(dtype="fp8", **THIN), row(**THIN), row(dtype="fp8", **WIDE), row(gpu=H100, dtype="fp8", **THIN)
    )
    assert np.isnan(napkin_s(frame)[0]).tolist() == [True, False, True, False]
    assert napkin_s(frame)[1] == {f"{A100}: no tensor.fp8 roof is known for this machine": 2}


def test_a_gpu_whose_link_is_not_known_has_no_bound_for_collectives(monkeypatch):
    lonely = dataclasses.replace(GPUS[A100], link_bytes_per_s=None)
    monkeypatch.setattr(measured_shapes, "GPUS", {A100: lonely})
    frame = make_frame(row("all_reduce", dtype="fp16", gpus=2, message_bytes=1024), row(**THIN))
    assert np.isnan(napkin_s(frame)[0]).tolist() == [True, False]
    assert napkin_s(frame)[1] == {
        f"{A100}: the rate of the link between the GPUs is not known, and a collective needs it": 1
    }


def test_no_row_has_no_bound():
    assert napkin_s(make_frame(row(**THIN)).iloc[:0])[0].size == 0


@given(
    st.sampled_from(["matmul", "attention_prefill", "attention_decode"]), st.sampled_from(["bf16", "fp8"]), st.data()
)
def test_bounds_of_rows_are_those_of_single_workloads(op, dtype, data):
    dims = {name: data.draw(st.integers(1, 300)) for name in dim_names(op)}
    if "heads" in dims:
        dims["heads"] *= dims["kv_heads"]
    workload = make_workload(op, dims, find_dtype(dtype))
    assert bound_s(op, H100, dtype, **dims) == pytest.approx(predict(workload.amounts, GPUS[H100].roofs).napkin_s)


@given(
    st.sampled_from([("attention_prefill", "seq"), ("attention_decode", "context")]),
    st.integers(1, 500),
    st.integers(1, 500),
)
def test_a_window_never_adds_time_and_one_that_holds_all_keys_changes_nothing(op_and_size, keys, window):
    op, size = op_and_size
    dims = {"batch": 4, size: keys, **HEADS}
    whole, within = bound_s(op, **dims), bound_s(op, **dims, window=window)
    assert within <= whole
    if window >= keys:
        assert within == whole


@settings(deadline=None)  # a busy machine takes long
@given(st.permutations(range(5)))
def test_bounds_keep_the_order_and_the_index_does_not_matter(order):
    rows = [
        row(**THIN),
        row(gpu=H100, dtype="fp8", **THIN),
        row("attention_decode", batch=1, context=9, **HEADS),
        row("all_reduce", dtype="fp16", gpus=2, message_bytes=1024),
        row(dtype="fp8", **THIN),
    ]
    frame = make_frame(*rows)
    np.testing.assert_array_equal(napkin_s(frame.iloc[list(order)])[0], napkin_s(frame)[0][list(order)])


def test_repeated_shapes_become_their_median():
    times = [row(time_s=time_s, **THIN) for time_s in (3.0, 1.0, 8.0)]
    others = [row(time_s=5.0, **THIN, kernel_source="other"), row(gpu=H100, time_s=7.0, **THIN)]
    assert merge_repeats(make_frame(*times, *others))["time_s"].tolist() == [3.0, 5.0, 7.0]


def measured_tables(*rows):
    return MeasuredTables(make_frame(*rows), {})


def rows_of(*rows):
    return compare_tables(measured_tables(*rows)).rows.to_dict(orient="records")


def test_two_gpus_stand_side_by_side_by_share_of_their_own_roofline():
    # 33,816,576 bytes: 16.58 us at 2.039 TB/s, 10.09 us at 3.35 TB/s.
    a, b = rows_of(row(time_s=40e-6, **THIN), row(gpu=H100, time_s=20e-6, **THIN))
    assert (a["side"], b["side"]) == (A100, H100)
    assert (a["op"], a["format"], a["size_of"], a["size"], a["shapes"]) == ("matmul", "bf16", "rows m", "1-16", 1)
    assert a["of_roofline"] == pytest.approx(33_816_576 / 2.039e12 / 40e-6)
    assert b["of_roofline"] == pytest.approx(33_816_576 / 3.35e12 / 20e-6)
    assert (a["time_ratio"], b["time_ratio"]) == (1.0, 0.5)


def test_shares_are_medians_over_all_shapes_and_times_over_the_common_ones():
    shapes = [{**THIN, "n": n} for n in (1024, 2048, 4096)]
    a = [row(time_s=1.0, **shape) for shape in shapes[:2]]
    b = [row(gpu=H100, time_s=time_s, **shape) for time_s, shape in zip((0.5, 0.25, 100.0), shapes, strict=True)]
    of_a, of_b = rows_of(*a, *b)
    assert (of_a["shapes"], of_b["shapes"], of_a["common_shapes"], of_b["common_shapes"]) == (2, 3, 2, 2)
    assert of_b["time_ratio"] == pytest.approx((0.5 + 0.25) / 2)
    # Bytes of a shape: 2 * (16 * 4096 + 4096 n + 16 n); the shares of B, in order of time: the third, first, second.
    first, second, third = (2 * (16 * 4096 + 4112 * n) / 3.35e12 for n in (1024, 2048, 4096))
    assert sorted([first / 0.5, second / 0.25, third / 100])[1] == first / 0.5
    assert of_b["of_roofline"] == pytest.approx(first / 0.5)
    assert of_b["common_of_roofline"] == pytest.approx((first / 0.5 + second / 0.25) / 2)


def test_a_shape_counts_once_by_its_fastest_kernel():
    slow, fast = row(time_s=4.0, **THIN), row(time_s=2.0, **THIN, kernel_source="fast")
    a, b = rows_of(slow, fast, row(gpu=H100, time_s=1.0, **THIN))
    assert (a["shapes"], b["time_ratio"]) == (1, 0.5)


def test_repeats_are_merged_before_the_fastest_is_taken():
    lucky = [row(time_s=time_s, **THIN) for time_s in (1.0, 9.0, 9.0)]
    _, b = rows_of(*lucky, row(gpu=H100, time_s=9.0, **THIN))
    assert b["time_ratio"] == 1.0


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({**THIN, "m": 1}, "1-16"),
        ({**THIN, "m": 16}, "1-16"),
        ({**THIN, "m": 17}, "17-64"),
        ({**THIN, "m": 4096}, "1025-4096"),
        ({**THIN, "m": 4097}, "over 4096"),
        ({"op": "attention_prefill", "batch": 4, "seq": 64, **HEADS}, "1-256"),
        ({"op": "attention_prefill", "batch": 4, "seq": 65, **HEADS}, "257-1024"),
        # 2 * 16 tokens * 8 heads * 128 * 2 bytes = 64 KiB; fp8 halves it, and a window limits it.
        ({"op": "attention_decode", "batch": 1, "context": 16, **HEADS}, "to 64 KiB"),
        ({"op": "attention_decode", "batch": 1, "context": 17, **HEADS}, "to 1 MiB"),
        ({"op": "attention_decode", "batch": 1, "context": 32, **HEADS, "kv_dtype": "fp8"}, "to 64 KiB"),
        ({"op": "attention_decode", "batch": 1, "context": 999, **HEADS, "window": 16}, "to 64 KiB"),
        ({"op": "all_gather", "gpus": 2, "message_bytes": 2**18}, "to 256 KiB"),
        ({"op": "all_gather", "gpus": 2, "message_bytes": 2**26 + 1}, "over 64 MiB"),
    ],
)
def test_sizes_have_classes(fields, size):
    found = rows_of(row(**fields), row(gpu=H100, **fields))
    assert {each["size"] for each in found} == {size}


def test_formats_stay_apart_and_name_other_weights_and_caches():
    attention = {"batch": 1, "context": 16, **HEADS}
    rows = [
        row(**THIN),
        row(**THIN, weight_dtype="int8"),
        row(**THIN, weight_dtype="int4", format="int4_wo"),
        row("attention_decode", **attention),
        row("attention_decode", **attention, kv_dtype="fp8"),
    ]
    found = rows_of(*rows, *({**each, "gpu": H100} for each in rows))
    assert {each["format"] for each in found} == {"bf16", "bf16, int8 weights", "int4_wo", "bf16, fp8 KV"}


def test_tables_of_one_gpu_are_compared_as_tables():
    found = rows_of(row(**THIN, table="old"), row(**THIN, table="new", time_s=5e-4))
    assert [(each["side"], each["time_ratio"]) for each in found] == [("old", 1.0), ("new", 0.5)]


def test_three_gpus_have_in_common_what_each_of_them_has():
    two, three = {**THIN, "n": 1024}, THIN
    sides = (A100, H100, "b200")
    found = rows_of(*(row(gpu=gpu, **three) for gpu in sides), *(row(gpu=gpu, **two) for gpu in sides[:2]))
    assert [(each["side"], each["shapes"], each["common_shapes"]) for each in found] == [
        (A100, 2, 1),
        (H100, 2, 1),
        ("b200", 1, 1),
    ]


def test_a_format_of_one_side_only_has_nothing_in_common():
    found = rows_of(row(**THIN), row(gpu=H100, **THIN), row(gpu=H100, dtype="fp8", **THIN))
    (fp8,) = (each for each in found if each["format"] == "fp8")
    assert (fp8["shapes"], fp8["common_shapes"]) == (1, 0)
    assert np.isnan(fp8["time_ratio"])


def test_what_is_left_out_or_has_no_roof_or_beats_it_is_said():
    # 16.58 us at the least on the A100.
    frame = make_frame(row(time_s=16e-6, **THIN), row(gpu=H100, **THIN), row(dtype="fp8", **THIN))
    comparison = compare_tables(MeasuredTables(frame, {("a100", "beam search"): 1234}))
    assert comparison.notes == (
        "a100: 1,234 rows left out: beam search",
        f"1 rows without a share of the roofline: {A100}: no tensor.fp8 roof is known for this machine",
        "1 shapes beat the roofline: operands stayed in L2, or the clock exceeded the datasheet's",
    )


def test_one_side_or_too_many_are_refused():
    with pytest.raises(BadRecord, match="nothing to compare: all rows are of a100"):
        compare_tables(measured_tables(row(**THIN, table="a100")))
    with pytest.raises(BadRecord, match="the tables have no usable row: they are empty"):
        compare_tables(MeasuredTables(make_frame(row(**THIN)).iloc[:0], {}))
    with pytest.raises(BadRecord, match=r"the tables have no usable row: a100: unknown dtype \(2 rows\)"):
        compare_tables(MeasuredTables(make_frame(row(**THIN)).iloc[:0], {("a100", "unknown dtype"): 2}))


def test_any_number_of_sides_has_letters():
    assert [side_letter(place) for place in (0, 1, 25, 26, 27, 52)] == ["A", "B", "Z", "AA", "AB", "BA"]
    found = rows_of(*(row(**THIN, table=f"table {number}", time_s=1.0 + number) for number in range(30)))
    assert [each["time_ratio"] for each in found] == [1.0 + number for number in range(30)]


def test_a_shape_is_bound_by_what_takes_longer():
    # 16 rows are under the ridges (153 and 295 FLOP a byte); 8192 rows are over them; a message crosses a link.
    sent = row("all_reduce", dtype="fp16", gpus=2, message_bytes=1024)
    frame = make_frame(row(**THIN), row(**WIDE), sent, row(dtype="fp8", **THIN)).assign(side="a")
    shapes, _ = shapes_of(frame)
    assert dict(zip(shapes["shape"], shapes["bound"], strict=False)) == {
        "m16-n4096-k4096": None,  # the last of this shape: fp8, for which an A100 has no roof
        "m8192-n8192-k8192": "compute",
        "gpus2-message_bytes1024": "link",
    }
    assert shapes["bound"].iloc[0] == "memory"
    (table,) = op_tables(compare_tables(measured_tables(row(**THIN), row(gpu=H100, **THIN))))
    assert (table.titles[-1], table.rows[0][-1]) == ("bound", "memory")


def test_the_text_has_shares_times_and_bounds():
    rows = [row(time_s=40e-6, **THIN), row(gpu=H100, time_s=20e-6, **THIN)]
    (two,) = op_tables(compare_tables(measured_tables(*rows)))
    # 33,816,576 bytes / 2.039 TB/s / 40 us and / 3.35 TB/s / 20 us.
    assert two.rows == (("bf16", "1-16", "1", "41.5 %", "50.5 %", "0.50x", "memory"),)
    assert len(two.titles) == len(two.rows[0])
    # 33,816,576 bytes / 7.7 TB/s / 10 us.
    (three,) = op_tables(compare_tables(measured_tables(*rows, row(gpu="b200", time_s=10e-6, **THIN))))
    assert three.rows == (("bf16", "1-16", "1", "41.5 %", "50.5 %", "43.9 %", "0.50x", "0.25x", "memory"),)
    assert len(three.titles) == len(three.rows[0])


def test_the_figure_is_the_same_each_time_and_needs_a_roof():
    rows = [row(**THIN), row(gpu=H100, **THIN), row(gpu=H100, dtype="fp8", **WIDE)]
    png = to_png(draw_shares(compare_tables(measured_tables(*rows))))
    assert png.startswith(b"\x89PNG")
    assert to_png(draw_shares(compare_tables(measured_tables(*rows)))) == png
    without = measured_tables(row(dtype="fp8", **THIN, table="a"), row(dtype="fp8", **THIN, table="b"))
    with pytest.raises(NothingToDraw, match="no row has a roof"):
        draw_shares(compare_tables(without))
