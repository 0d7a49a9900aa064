"""Claims on tables of kernels whose times follow a rule, or break it."""

import itertools

import numpy as np
import pandas as pd
import pytest

from predict.expected.kernel import TIME_MODELS
from predict.expected.time_model import Machine
from predict.gpus import GPUS
from predict.units import DTYPES, Formats
from reports.calibration.refine import Sample
from reports.scorecard.kernels import of_kernels
from tests.reports.accuracy.test_plots import make_group

H100 = Machine.of(GPUS["h100-sxm"], DTYPES["bf16"])
RIDGE = H100.flop_per_s / H100.bytes_per_s  # 295 FLOP a byte
ROWS = (1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192)


def group(op, sizes, time_of, formats=None, **changes):
    """A group with every combination of `sizes`, whose times are `time_of` its columns and its bound."""
    shapes = np.array(list(itertools.product(*sizes.values())), dtype=float).T
    columns = dict(zip(sizes, shapes, strict=True))
    if "attention" in op:
        columns["window"] = np.zeros(shapes.shape[1])
    formats = formats or Formats()
    napkin_s = TIME_MODELS[op].napkin_s(columns, H100, formats)
    time_s = time_of(columns, napkin_s)
    rows = pd.DataFrame({**columns, "time_s": time_s, "napkin_s": napkin_s, "expected_s": time_s, "is_probe": False})
    return make_group(op, **{**changes, "rows": rows, "shapes": Sample(op, columns, time_s, H100, formats)})


def matmuls(time_of, **changes):
    return group("matmul", {"m": ROWS, "n": (16384, 32768), "k": (16384,)}, time_of, **changes)


def by_bound(columns, napkin_s):
    return napkin_s


def errors_of(*groups):
    found = of_kernels(groups)
    return {number: each if isinstance(each, str) else float(np.median(each.errors)) for number, each in found.items()}


def test_times_that_are_their_bounds_hold_every_claim():
    found = errors_of(matmuls(by_bound))
    assert found[1] == found[12] == 0
    # The knee of a matmul of finite width lies a little above the ridge, since activations move too.
    assert found[2] < 0.1


def test_a_knee_at_twice_the_ridge_is_off_by_a_half():
    # Few rows take the time that twice the ridge needs of FLOP.
    def late(columns, napkin_s):
        flop_s = 2 * columns["m"] * columns["n"] * columns["k"] / H100.flop_per_s
        return np.maximum(flop_s, 2 * RIDGE * 2 * columns["n"] * columns["k"] / H100.flop_per_s)

    assert errors_of(matmuls(late))[2] == pytest.approx(0.5, rel=0.02)


def test_a_batch_that_costs_time_below_the_ridge_breaks_the_claim_of_batching():
    found = errors_of(matmuls(lambda columns, napkin_s: napkin_s * np.sqrt(columns["m"])))
    assert found[12] > 0.9


def test_fewer_kv_heads_are_held_to_their_bytes():
    sizes = {"batch": (64,), "context": (8192, 16384), "heads": (32,), "kv_heads": (8, 32), "head_dim": (128,)}
    assert errors_of(group("attention_decode", sizes, by_bound))[9] == 0
    as_long = errors_of(group("attention_decode", sizes, lambda columns, napkin_s: np.ones_like(napkin_s)))
    # A quarter of the bytes in the same time: the bound says a quarter, and a little for Q and O.
    assert as_long[9] == pytest.approx(0.75, rel=0.01)


def test_half_the_bytes_are_held_to_half_the_time():
    fp8 = Formats.of(DTYPES["fp8"])
    narrow = matmuls(by_bound, formats=fp8, dtype="fp8")
    assert errors_of(matmuls(by_bound), narrow)[16] < 0.01
    slow = matmuls(lambda columns, napkin_s: 2 * napkin_s, formats=fp8, dtype="fp8")
    assert errors_of(matmuls(by_bound), slow)[16] == pytest.approx(0.5, rel=0.02)


def test_the_shares_of_the_roofs_are_those_of_each_regime():
    sizes = {"batch": (64,), "context": (8192,), "heads": (32,), "kv_heads": (8,), "head_dim": (128,)}
    steps = group("attention_decode", sizes, lambda columns, napkin_s: 2 * napkin_s)
    found = of_kernels([matmuls(lambda columns, napkin_s: napkin_s / 0.8), steps])[7]
    assert "prefill use 80.0 % of the peak" in found.sentence
    assert "of the bandwidth" in found.sentence


def sums(time_of):
    sizes = {"gpus": (2, 4), "message_bytes": 2.0 ** np.arange(10, 31)}
    return group("all_reduce", sizes, time_of, dtype="fp16", formats=Formats(compute=DTYPES["fp16"]))


def test_parts_of_a_layer_are_held_to_their_bounds_and_to_the_messages_between_them():
    sizes = {"m": (16, 256), "n": (2048, 4096, 8192), "k": (2048, 4096, 8192)}
    whole = group("matmul", sizes, by_bound)
    found = of_kernels([whole, sums(by_bound)])[17]
    # On 2 GPUs all four pairs of n and k from 4096 and 8192, whose halves were measured; on 4 the two with n = 8192.
    assert len(found.measured) == 2 * (4 + 2)
    assert found.errors.max() < 1e-9
    slow = of_kernels([whole, sums(lambda columns, napkin_s: napkin_s + 1e-3)])[17]
    assert np.median(slow.errors) > 0.5  # a millisecond for each sum
    assert isinstance(of_kernels([whole])[17], str)


def test_what_tables_lack_is_said():
    found = errors_of(group("attention_decode", {"batch": (1,), "context": (128,), "heads": (8,), "kv_heads": (8,),
                                                 "head_dim": (64,)}, by_bound))  # fmt: skip
    assert isinstance(found[2], str)
    assert isinstance(found[17], str)
    assert found[9] == "no shape with and without shared KV heads that is larger than L2"
