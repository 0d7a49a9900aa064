"""Probes by the dimensions alone, and constants recovered from times that were made with known ones."""

import itertools

import numpy as np
import pytest

from predict.expected.kernel import TIME_MODELS, expect
from predict.expected.time_model import Calibration, Machine
from predict.gpus import GPUS
from predict.units import Formats, find_dtype
from reports.calibration.fit import PROBES, calibrate, choose_probes
from tests.calibrations import CALIBRATIONS

H100 = Machine.of(GPUS["h100-sxm"], find_dtype("bf16"))
FORMATS = Formats()
GRIDS = {
    "matmul": {"m": 2.0 ** np.arange(0, 14), "n": 2.0 ** np.arange(6, 15), "k": 2.0 ** np.arange(6, 15)},
    "attention_prefill": {
        "batch": [1, 2, 8, 32],
        "seq": [1, 16, 100, 512, 2048, 8192, 16384],
        "heads": [8, 32, 64],
        "kv_heads": [1, 8],
        "head_dim": [64, 128, 512],
        "window": [0],
    },
    "attention_decode": {
        "batch": [1, 4, 32, 256],
        "context": [2, 128, 1024, 4096, 32768],
        "heads": [8, 32, 64],
        "kv_heads": [1, 8],
        "head_dim": [64, 128, 512],
        "window": [0],
    },
    "moe_layer": {
        "tokens": [1, 16, 128, 1024, 8192],
        "hidden": [2048, 4096],
        "intermediate": [512, 2048],
        "active": [8],
        "experts": [64, 256],
        "tp": [1, 4, 32],
        "ep": [1, 32],
        "skew": [0, 1.2],
        "matrices": [3],
    },
    "all_reduce": {"gpus": [2, 4, 8], "message_bytes": 2.0 ** np.arange(8, 30)},
}


def grid(op):
    shapes = np.array(list(itertools.product(*GRIDS[op].values())), dtype=float).T
    return dict(zip(GRIDS[op], shapes, strict=True))


def times(op, calibration, columns, noise=0.0):
    jitter = np.random.default_rng(7).normal(0, noise, len(next(iter(columns.values()))))
    return expect(columns, H100, FORMATS, calibration).time_s * np.exp(jitter)


@pytest.mark.parametrize("op", GRIDS)
def test_at_most_16_distinct_probes(op):
    probes = choose_probes(op, grid(op), H100, FORMATS)
    assert len(probes) == len(set(probes.tolist())) == PROBES == 16


@pytest.mark.parametrize("op", GRIDS)
def test_the_order_of_the_rows_plays_no_part(op):
    columns = grid(op)
    shuffled = np.random.default_rng(3).permutation(len(next(iter(columns.values()))))
    mixed = {name: column[shuffled] for name, column in columns.items()}

    def chosen(rows):
        probes = choose_probes(op, rows, H100, FORMATS)
        return {tuple(column[probe] for column in rows.values()) for probe in probes}

    assert chosen(mixed) == chosen(columns)


@pytest.mark.parametrize("op", GRIDS)
def test_a_small_group_gives_what_it_has(op):
    columns = grid(op)
    usual = np.flatnonzero(columns.get("head_dim", np.full(len(next(iter(columns.values()))), 64)) <= 128)[:5]
    few = {name: column[usual] for name, column in columns.items()}
    assert sorted(choose_probes(op, few, H100, FORMATS)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("op", ["attention_prefill", "attention_decode"])
def test_large_heads_are_no_probes_where_there_are_smaller_ones(op):
    columns = grid(op)
    assert columns["head_dim"][choose_probes(op, columns, H100, FORMATS)].max() == 128
    large = columns["head_dim"] == 512
    only = {name: column[large] for name, column in columns.items()}
    assert len(choose_probes(op, only, H100, FORMATS)) == 16


@pytest.mark.parametrize(("op", "size"), [("attention_mla", "context"), ("attention_mla_prefill", "seq")])
def test_probes_of_latent_attention_spread_where_rows_tell_the_same(op, size):
    sizes = {"batch": 2.0 ** np.arange(0, 11), size: 2.0 ** np.arange(0, 15), "heads": 2.0 ** np.arange(0, 8)}
    shapes = np.array(list(itertools.product(*sizes.values())), dtype=float)
    columns = dict(zip(sizes, shapes.T, strict=True)) | {"latent": np.full(len(shapes), 512.0)}
    columns |= {"rope": np.full(len(shapes), 64.0), "head_dim": np.full(len(shapes), 128.0)}
    model = TIME_MODELS[op]
    probes = choose_probes(op, columns, H100, FORMATS)
    assert len(set(probes.tolist())) == 16
    truth = Calibration(op, {**model.priors(), "host_s": 1.5e-4}, model.default_switches(H100), 16, "made")
    measured = times(op, truth, columns, noise=0.05)
    found = calibrate(
        op, {name: column[probes] for name, column in columns.items()}, measured[probes], H100, FORMATS, "x"
    )
    assert np.abs(expect(columns, H100, FORMATS, found).time_s / measured - 1).mean() < 0.08
    # Many rows take the host's time alone: the probes among them are not of one corner.
    hidden = expect(columns, H100, FORMATS, truth).parts["waiting"][probes] > 0
    assert len(set(columns["batch"][probes][hidden].tolist())) > 2


def test_probes_of_experts_spread_over_layers_batches_and_parts():
    columns = grid("moe_layer")
    probes = choose_probes("moe_layer", columns, H100, FORMATS)
    for name in ("tokens", "hidden", "intermediate", "experts", "tp", "ep", "skew"):
        assert set(columns[name][probes]) >= {columns[name].min(), columns[name].max()}


@pytest.mark.parametrize("op", GRIDS)
@pytest.mark.parametrize("gpu", ["a100-sxm-80gb", "h100-sxm"])
def test_times_made_with_known_constants_are_predicted_from_the_probes(op, gpu):
    columns, model = grid(op), TIME_MODELS[op]
    usual = Calibration(op, model.priors(), model.default_switches(H100), 16, "made up")
    truth = CALIBRATIONS.get((gpu, op, "bf16"), usual)
    measured = times(op, truth, columns, noise=0.02)
    probes = choose_probes(op, columns, H100, FORMATS)
    found = calibrate(
        op, {name: column[probes] for name, column in columns.items()}, measured[probes], H100, FORMATS, "x"
    )
    rest = np.setdiff1d(np.arange(len(measured)), probes)
    error = np.abs(expect(columns, H100, FORMATS, found).time_s / measured - 1)[rest]
    assert error.mean() < 0.06
    assert found.probes == 16
    for name, value in found.constants.items():
        constant = TIME_MODELS[op].constants[name]
        assert constant.low <= value <= constant.high


def test_a_switch_that_the_probes_speak_for_is_turned():
    columns = grid("attention_decode")
    columns = {name: column[columns["heads"] == 8 * columns["kv_heads"]] for name, column in columns.items()}
    truth = CALIBRATIONS["h100-sxm", "attention_decode", "bf16"]
    for packs in (False, True):
        made = Calibration(truth.op, truth.constants, {**truth.switches, "packs_groups": packs}, 16, "made")
        probes = choose_probes("attention_decode", columns, H100, FORMATS)
        rows = {name: column[probes] for name, column in columns.items()}
        found = calibrate(truth.op, rows, times(truth.op, made, columns)[probes], H100, FORMATS, "x")
        assert found.switches["packs_groups"] is packs


def test_one_bad_row_does_not_decide():
    truth, columns = CALIBRATIONS["h100-sxm", "matmul", "bf16"], grid("matmul")
    measured = times("matmul", truth, columns)
    probes = choose_probes("matmul", columns, H100, FORMATS)
    rows = {name: column[probes] for name, column in columns.items()}
    spoiled = measured[probes].copy()
    spoiled[5] *= 8
    found = calibrate("matmul", rows, spoiled, H100, FORMATS, "x")
    rest = np.setdiff1d(np.arange(len(measured)), probes)
    assert np.median(np.abs(expect(columns, H100, FORMATS, found).time_s / measured - 1)[rest]) < 0.08


def test_a_constant_that_no_probe_touches_stays_at_its_prior():
    columns = {"m": np.full(16, 16.0), "n": 2.0 ** np.arange(10, 26) // 64 * 64, "k": np.full(16, 64.0)}
    measured = times("matmul", CALIBRATIONS["h100-sxm", "matmul", "bf16"], columns)
    found = calibrate("matmul", columns, measured, H100, FORMATS, "x")
    assert found.constants["join_s"] == pytest.approx(TIME_MODELS["matmul"].constants["join_s"].prior, rel=0.02)
