"""Rows that cannot be true, in tables made by hand and in tables that file windowed attention as full attention."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from predict.errors import MissingCeiling
from predict.expected.kernel import expect
from predict.expected.time_model import Machine
from predict.gpus import NVIDIA_GPUS
from predict.units import DTYPES, Formats
from reports.accuracy.possible import FASTER, UNTRUSTED, least_times, why_impossible
from tests.calibrations import CALIBRATIONS

H100, BF16 = NVIDIA_GPUS["h100-sxm"], DTYPES["bf16"]
HIGHEST = 132 * 4096 * 1980e6  # FLOP/s: SMs, FLOP per clock and SM, clock
PINS = 5120 * 5.2345e9 / 8  # B/s: bits of the bus, rate of a pin; 3.35 TB/s


def least(op, **dims):
    columns = {name: np.atleast_1d(np.asarray(values, dtype=float)) for name, values in dims.items()}
    return least_times(op, columns, H100, BF16, Formats())


def attention(op, windows):
    """Rows of three sets of heads by the shipped form, with the windows that ran."""
    length = "seq" if op == "attention_prefill" else "context"
    lengths = 2.0 ** (np.arange(6, 15) if op == "attention_prefill" else np.arange(8, 18))
    sizes = itertools.product((1, 4, 16), lengths, ((32, 8), (8, 1), (32, 32)), windows)
    rows = np.array([(batch, size, *heads, 128, window) for batch, size, heads, window in sizes], dtype=float).T
    columns = dict(zip(("batch", length, "heads", "kv_heads", "head_dim", "window"), rows, strict=True))
    calibration = CALIBRATIONS["h100-sxm", op, "bf16"]
    time_s = expect(columns, Machine.of(H100, BF16), Formats(), calibration).time_s
    return columns, time_s


def test_no_product_is_faster_than_its_flop_at_the_highest_clock():
    shape = 8192.0
    assert least("matmul", m=shape, n=shape, k=shape) == pytest.approx(2 * shape**3 / HIGHEST)


def test_weights_that_l2_may_hold_are_not_judged():
    # 1 x 8192 x 8192 moves 134 MB, but a matmul may find its weights in L2: its FLOP alone count.
    assert least("matmul", m=1.0, n=8192.0, k=8192.0) == pytest.approx(2 * 8192.0**2 / HIGHEST)


def test_a_cache_that_l2_cannot_hold_is_read_at_most_at_the_rate_of_the_pins():
    dims = {"batch": 64.0, "context": 8192.0, "heads": 8.0, "kv_heads": 8.0, "head_dim": 128.0, "window": 0.0}
    read = 64 * 8192 * 8 * 128 * 2 * 2 + 2 * 64 * 8 * 128 * 2  # keys and values; queries and outputs
    assert least("attention_decode", **dims) == pytest.approx((read - 50 * 2**20) / PINS, rel=1e-3)


def test_a_collective_needs_a_link_whose_rate_is_known():
    columns = {"gpus": np.array([4.0]), "message_bytes": np.array([1e6])}
    assert least_times("all_reduce", columns, H100, BF16, Formats()) == 0
    with pytest.raises(MissingCeiling, match="rate of the link"):
        least_times("all_reduce", columns, replace(H100, link_bytes_per_s=None), BF16, Formats())


def test_a_row_over_the_peak_is_left_out_alone():
    columns, time_s = attention("attention_prefill", [0])
    time_s[40] = 1e-7
    why = why_impossible(columns, time_s, least_times("attention_prefill", columns, H100, BF16, Formats()))
    assert np.flatnonzero(why != "").tolist() == [40]
    assert why[40] == FASTER


@pytest.mark.parametrize("op", ["attention_prefill", "attention_decode"])
def test_rows_of_windows_filed_as_windows_are_all_true(op):
    columns, time_s = attention(op, [0, 128])
    assert set(why_impossible(columns, time_s, least_times(op, columns, H100, BF16, Formats()))) == {""}


@pytest.mark.parametrize("op", ["attention_prefill", "attention_decode"])
def test_sets_of_windowed_rows_filed_as_full_are_left_out_whole(op):
    columns, time_s = attention(op, [128])
    columns["window"] = np.zeros_like(columns["window"])
    columns["head_dim"] = np.where(columns["heads"] == columns["kv_heads"], 64.0, 128.0)  # MHA of another model
    least_s = least_times(op, columns, H100, BF16, Formats())
    mha = columns["head_dim"] == 64
    full, _ = attention(op, [0])
    true_s = expect(
        {**full, "head_dim": columns["head_dim"]},
        Machine.of(H100, BF16),
        Formats(),
        CALIBRATIONS["h100-sxm", op, "bf16"],
    ).time_s
    why = why_impossible(columns, np.where(mha, true_s, time_s), least_s)
    assert set(why[mha]) == {""}
    assert set(why[~mha]) == {FASTER, UNTRUSTED}


@pytest.mark.parametrize("op", ["attention_prefill", "attention_decode"])
def test_where_full_and_windowed_rows_are_filed_as_one_the_full_ones_stay(op):
    columns, time_s = attention(op, [0, 128])
    windowed = columns["window"] > 0
    columns["window"] = np.zeros_like(columns["window"])
    why = why_impossible(columns, time_s, least_times(op, columns, H100, BF16, Formats()))
    length = columns["seq" if op == "attention_prefill" else "context"]
    assert set(why[~windowed]) == {""}
    assert set(why[windowed & (length > 1024)]) == {FASTER, UNTRUSTED}
