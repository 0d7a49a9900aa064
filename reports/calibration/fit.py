"""Fits a Calibration to at most 16 measured rows, the probes, and chooses them.

The choice depends only on the dimensions: measured times, the order of rows and names play no part.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from predict.expected.kernel import TIME_MODELS
from predict.expected.probes import MATMUL_PROBES
from predict.expected.time_model import Calibration, Constants, Machine, Switches, TimeModel
from predict.units import Formats
from predict.workloads import FloatArray

Positions = NDArray[np.intp]
Columns = Mapping[str, FloatArray]

PROBES = 16
NOISE = 0.1  # expected deviation of a row from the model, in log(time): weighs the rows against the priors
LARGEST_HEAD_DIM = 256  # larger heads have their own kernels: a group with smaller heads never probes them
SLOPE_STEP = 0.2  # step in log(constant) for the slopes that choose the probes
SWITCH_SPREAD = 1.0  # spread of a switch, which counts as one more constant between its two settings
REPEAT = 0.03  # deviation of a measured row from a second measurement, in log(time)
MISFIT_DOUBLINGS = 4.0  # a form's error at two shapes has this much in common, in doublings between them, to 1/e
CANDIDATES = 1200  # rows that a choice for the sake of a form's misfit looks at


@dataclass(frozen=True, slots=True)
class Fit:
    """A calibration and how well it fits its probes."""

    calibration: Calibration
    cost: float  # half the sum of squared residuals, priors included


def choose_probes(op: str, columns: Columns, machine: Machine, formats: Formats, most: int = PROBES) -> Positions:
    """Positions of the rows to measure, at most `most`. `columns` holds the dimensions of distinct shapes."""
    if op == "matmul":
        return _nearest(columns, most)
    model = TIME_MODELS[op]
    choose = _most_telling_with_misfit if model.misfit else _most_telling
    return choose(model, columns, machine, formats, most)


def calibrate(
    op: str, columns: Columns, time_s: FloatArray, machine: Machine, formats: Formats, source: str
) -> Calibration:
    """Fit constants to measured rows, once for each setting of the switches, and return the best fit.

    Each switch away from its default must pay: it adds `must_gain` to the cost and divides the cost by `must_reach`.
    The loss is a soft L1 of log(predicted / measured), so that one bad row cannot decide. Each prior pulls with the
    inverse of its spread.
    """
    model = TIME_MODELS[op]
    default = model.default_switches(machine)
    best: tuple[float, Fit] | None = None
    for setting in itertools.product((False, True), repeat=len(model.switches)):
        on = dict(zip(model.switches, setting, strict=True))
        fit = fit_constants(model, columns, time_s, machine, formats, on, source)
        moved = [model.switches[name] for name in on if on[name] != default[name]]
        cost = fit.cost + sum(switch.must_gain for switch in moved)
        for switch in moved:
            cost /= switch.must_reach
        if best is None or cost < best[0]:
            best = cost, fit
    assert best is not None
    return best[1].calibration


def fit_constants(
    model: TimeModel,
    columns: Columns,
    time_s: FloatArray,
    machine: Machine,
    formats: Formats,
    on: Switches,
    source: str,
) -> Fit:
    """Fit the constants of `model` with the switches set as `on`; see `calibrate`."""
    names = model.fitted(formats)
    fitted = [model.constants[name] for name in names]
    prior, low, high = (np.log([getattr(each, end) for each in fitted]) for end in ("prior", "low", "high"))
    spread = np.array([each.spread for each in fitted])
    log_measured = np.log(time_s)

    def constants(logs: FloatArray) -> Constants:
        return dict(zip(names, np.exp(logs).tolist(), strict=True))

    def residuals(logs: FloatArray) -> FloatArray:
        predicted = model.terms(columns, machine, formats, constants(logs), on).time_s
        error = (np.log(predicted) - log_measured) / NOISE
        soft = np.sign(error) * np.sqrt(2 * (np.sqrt(1 + error**2) - 1))
        return np.concatenate([soft, (logs - prior) / spread])

    # Three starts: the priors, and two with another launch time, since an empty call takes at most the shortest time.
    quick = prior.copy()
    quick[0] = np.log(0.8 * time_s.min())
    slow = prior.copy()
    slow[0] = np.log(np.median(time_s))
    starts = [np.clip(start, low + 1e-6, high - 1e-6) for start in (prior, quick, slow)]
    found = [
        least_squares(residuals, start, bounds=(low, high), diff_step=[2e-3] * len(names), max_nfev=40)
        for start in starts
    ]
    best = min(found, key=lambda each: float(each.cost))
    return Fit(Calibration(model.op, constants(best.x), dict(on), len(time_s), source), float(best.cost))


def _nearest(columns: Columns, most: int) -> Positions:
    """The nearest shape to each of MATMUL_PROBES that no earlier one took."""
    shapes = np.log2(np.stack([columns[name] for name in ("m", "n", "k")], axis=1))
    order = np.lexsort((columns["k"], columns["n"], columns["m"]))
    free = np.ones(len(order), dtype=bool)
    picked: list[int] = []
    for target in np.log2(np.array(MATMUL_PROBES, dtype=np.float64))[: min(most, len(order))]:
        distance = np.where(free, np.abs(shapes[order] - target).sum(axis=1).round(6), np.inf)
        nearest = int(distance.argmin())
        free[nearest] = False
        picked.append(int(order[nearest]))
    return np.array(picked, dtype=np.intp)


def _most_telling(model: TimeModel, columns: Columns, machine: Machine, formats: Formats, most: int) -> Positions:
    """Rows chosen one at a time: each reduces the mean variance of all predictions the most.

    Bayesian I-optimal design with the model linear in log(constants) at the priors (Chaloner and Verdinelli 1995).
    """
    order = _candidates(model, columns)
    slopes = _slopes(model, {name: column[order] for name, column in columns.items()}, machine, formats)
    spreads = [model.constants[name].spread for name in model.fitted(formats)]
    covariance = np.diag(np.square([*spreads, *[SWITCH_SPREAD] * len(model.switches)]))
    wanted = slopes.T @ slopes / len(slopes)
    sizes = np.log2(np.stack([columns[name][order] + 1 for name in model.dims], axis=1))
    free = np.ones(len(order), dtype=bool)
    chosen: list[int] = []
    for _ in range(min(most, len(order))):
        gain = slopes @ covariance
        worth = np.einsum("ij,jk,ik->i", gain, wanted, gain) / (NOISE**2 + np.einsum("ij,ij->i", gain, slopes))
        row = _apart(np.where(free, worth, -1), sizes, chosen, model.ties)
        chosen.append(row)
        free[row] = False
        step = covariance @ slopes[row]
        covariance = covariance - np.outer(step, step) / (NOISE**2 + slopes[row] @ step)
    return order[chosen]


def _most_telling_with_misfit(
    model: TimeModel, columns: Columns, machine: Machine, formats: Formats, most: int
) -> Positions:
    """The same for a form that misses: its error at a shape tells that of shapes nearby.

    The covariance of all log(time)s is that of the constants, and of a Gaussian process over the sizes (Rasmussen and
    Williams 2006, chapter 2) with the deviation `model.misfit`.
    """
    order = _candidates(model, columns)
    if len(order) > CANDIDATES:
        order = order[np.sort(np.random.default_rng(0).permutation(len(order))[:CANDIDATES])]
    rows = {name: column[order] for name, column in columns.items()}
    slopes = _slopes(model, rows, machine, formats)
    spreads = [model.constants[name].spread for name in model.fitted(formats)]
    variances = np.square([*spreads, *[SWITCH_SPREAD] * len(model.switches)])
    # Heads count as those that share a KV head: how many there are in all says little.
    alike = {**rows, "heads": rows["heads"] / rows["kv_heads"]} if "kv_heads" in rows else rows
    sizes = [np.log2(alike[name] + 1) for name in model.dims]
    distance = np.sum([np.abs(size[:, np.newaxis] - size) for size in sizes], axis=0)
    covariance = (slopes * variances) @ slopes.T + model.misfit**2 * np.exp(-distance / MISFIT_DOUBLINGS)
    free = np.ones(len(order), dtype=bool)
    chosen: list[int] = []
    for _ in range(min(most, len(order))):
        worth = np.square(covariance).sum(axis=0) / (REPEAT**2 + np.diag(covariance))
        row = int(np.argmax(np.where(free, worth.round(9), -1)))
        chosen.append(row)
        free[row] = False
        told = covariance[row]
        covariance = covariance - np.outer(told, told) / (REPEAT**2 + told[row])
    return order[chosen]


def _candidates(model: TimeModel, columns: Columns) -> Positions:
    """The rows to choose from, in the order of their sizes: of heads that others have too, the usual ones."""
    order = np.lexsort([columns[name] for name in model.dims])
    if "head_dim" in columns and (small := columns["head_dim"][order] <= LARGEST_HEAD_DIM).any():
        order = order[small]
    return order


def _apart(worth: FloatArray, sizes: FloatArray, chosen: list[int], ties: float) -> int:
    """The row that is worth the most; of those worth nearly as much (`ties`) the one furthest from the chosen ones."""
    if not ties:
        return int(np.argmax(worth))
    near = np.flatnonzero(worth >= worth.max() * (1 - ties))
    if not chosen:
        return int(near[np.argmin(np.abs(sizes[near] - np.median(sizes[near], axis=0)).sum(axis=1))])
    distances = [np.abs(sizes[near] - sizes[row]).sum(axis=1) for row in chosen]
    return int(near[np.argmax(np.min(distances, axis=0).round(6))])


def _slopes(model: TimeModel, columns: Columns, machine: Machine, formats: Formats) -> FloatArray:
    """The slopes d log(time) / d log(constant) at the priors, and log(time on / time off) of each switch."""
    at, on = dict(model.priors()), dict(model.default_switches(machine))

    def logs(constants: Constants, switches: Switches) -> FloatArray:
        return np.log(model.terms(columns, machine, formats, constants, switches).time_s)

    sides = [
        (at | {name: at[name] * np.exp(SLOPE_STEP)}, at | {name: at[name] * np.exp(-SLOPE_STEP)})
        for name in model.fitted(formats)
    ]
    slopes = [(logs(more, on) - logs(less, on)) / (2 * SLOPE_STEP) for more, less in sides]
    slopes += [logs(at, on | {name: True}) - logs(at, on | {name: False}) for name in on]
    return np.stack(slopes, axis=1)
