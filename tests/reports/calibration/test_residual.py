"""A residual is what the form leaves over: it is found again on another GPU, within bounds, and only where probes
confirm it."""

import itertools
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest

from predict.expected.calibrations import Library, Shipped, find_known
from predict.expected.kernel import expect
from predict.expected.residual import LARGEST, log_factor
from predict.expected.time_model import Calibration, Machine
from predict.gpus import GPUS
from predict.units import Formats, find_dtype
from reports.calibration.errors import mean_error
from reports.calibration.fit import calibrate, choose_probes
from reports.calibration.refine import Sample, refined_calibration
from reports.calibration.residual import fit_residual

BF16 = find_dtype("bf16")
SIZES = [2.0**power for power in range(6, 15)]
TRUTH = Calibration(
    "matmul",
    {"launch_s": 3e-6, "math_share": 0.8, "dram_share": 0.85, "tile_edge": 130.0, "join_s": 2.4e-6},
    {"whole_waves": False, "fixed_tiles": False, "splits_k": True},
    16,
    "made up",
)


def columns(sizes=SIZES):
    m, n, k = np.array(list(itertools.product([1.0, *sizes], sizes, sizes))).T
    return {"m": m, "n": n, "k": k}


def true_log(dims):
    """A smooth residual: 20 % slower at few rows, 10 % faster at many, and a wave along k."""
    return np.interp(np.log2(dims["m"]), [0, 5, 10, 14], [0.2, 0.15, -0.05, -0.1]) + 0.05 * np.sin(np.log2(dims["k"]))


def sample(gpu, dims=None, log=true_log, calibration=TRUTH):
    dims = dims or columns()
    machine = Machine.of(GPUS[gpu], BF16)
    time_s = expect(dims, machine, Formats(), calibration).time_s * np.exp(log(dims))
    return Sample("matmul", dims, time_s, machine, Formats())


def shipped(gpu, log=true_log):
    """What ships of `gpu`: the true constants, and the residual fitted to made-up times."""
    told = sample(gpu, log=log)
    values = fit_residual("matmul", told.columns, np.log(told.time_s / told.expected_s(TRUTH)))
    ranges = {name: (float(column.min()), float(column.max())) for name, column in told.columns.items()}
    return Shipped(gpu, "bf16", None, False, "some kernel", MappingProxyType(ranges), 810, 0.1, 0.02, values, TRUTH)


@pytest.fixture(scope="module")
def library():
    return Library((shipped("h100-sxm"),), ())


def test_a_smooth_residual_is_found_on_a_gpu_that_nobody_measured(library):
    asked = sample("h200-sxm")
    known = find_known(GPUS["h200-sxm"], "matmul", "bf16", among=library)
    expected_s = asked.expected_s(known.calibration)
    alone = mean_error(expected_s, asked.time_s)
    # Nodes are one or two octaves apart, a value is 1 %, and 810 rows are few for 1,581 nodes.
    assert mean_error(expected_s * known.factor(asked.columns), asked.time_s) < 0.3 * alone


def test_noise_is_not_a_residual():
    dims = columns()
    noise = np.random.default_rng(0).normal(0, 0.05, len(dims["m"]))
    values = fit_residual("matmul", dims, noise)
    assert np.abs(log_factor("matmul", dims, values)).mean() < 0.5 * np.abs(noise).mean()


def test_no_residual_is_larger_than_two_or_reaches_far_beyond_the_rows():
    dims = columns()
    values = fit_residual("matmul", dims, np.full(len(dims["m"]), np.log(5.0)))
    within = log_factor("matmul", dims, values)
    assert within.max() == pytest.approx(LARGEST)
    far = {"m": np.array([16.0]), "n": np.array([2.0**19]), "k": np.array([2.0**19])}
    assert log_factor("matmul", far, values) == pytest.approx(0.0)


def test_with_probes_the_residual_counts_where_they_confirm_it(library):
    known = find_known(GPUS["h200-sxm"], "matmul", "bf16", among=library)
    asked = sample("h200-sxm")
    told = asked.at(choose_probes("matmul", asked.columns, asked.machine, asked.formats))
    plain = calibrate("matmul", told.columns, told.time_s, told.machine, told.formats, "made up")
    joined = refined_calibration(told, plain, known)
    assert joined is not None
    alone = mean_error(asked.expected_s(plain), asked.time_s)
    assert mean_error(asked.refined_s(joined, known), asked.time_s) < 0.5 * alone
    # Times that are off the other way have nothing of this residual.
    other_way = replace(told, time_s=told.time_s * np.exp(-2 * true_log(told.columns)))
    assert refined_calibration(other_way, plain, known) is None


def test_another_architecture_is_never_refined(library):
    known = find_known(GPUS["b200"], "matmul", "bf16", among=library)
    told = sample("b200").at(np.arange(16))
    assert refined_calibration(told, TRUTH, known) is None
