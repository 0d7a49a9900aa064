"""What another GPU's measurements tell of a table's GPU: without a measurement of it, and with 16 probes.

Nothing measured on the table's own GPU counts, so that no table judges what was fitted to it.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from predict.errors import MissingCeiling
from predict.expected.calibrations import Basis, Carried, Known, Library, find_known, same_rates
from predict.expected.collective import COLLECTIVES
from predict.expected.time_model import Calibration
from predict.gpus import GPUS
from predict.workloads import FloatArray
from reports.accuracy.columns import Mask
from reports.calibration.errors import mean_error
from reports.calibration.fit import Positions
from reports.calibration.refine import Sample, refined_calibration

Carriage = tuple[str, str, str | None, bool, Basis]  # op, format, cache, window, basis


@dataclass(frozen=True, slots=True)
class Identity:
    """Which kernels a group is of."""

    gpu: str
    op: str
    format: str
    cache: str | None
    window: bool
    kernel: str


@dataclass(frozen=True, slots=True)
class ByRelative:
    """Times of a group's shapes by the nearest other GPU that was measured; None where there is nothing to tell."""

    known: Known | None
    reason: str  # why `known` is None
    expected_s: FloatArray | None  # no measurement of the group's GPU
    refined_s: FloatArray | None  # the same with the residual
    probed_s: FloatArray | None  # with the group's probes, and the residual if they confirm it
    confirmed: bool


def by_relative(
    shapes: Sample, identity: Identity, probes: Positions, plain: Calibration, leave_out: Collection[str] = ()
) -> ByRelative:
    """What the nearest other GPU tells of the shapes; `plain` are the constants that their probes give."""
    try:
        known = _find(shapes, identity, {identity.gpu, *leave_out})
    except MissingCeiling as error:
        return ByRelative(None, str(error), None, None, None, confirmed=False)
    expected_s, factor = shapes.expected_s(known.calibration), known.factor(shapes.columns)
    if factor is None:
        return ByRelative(known, "", expected_s, None, None, confirmed=False)
    joined = refined_calibration(shapes.at(probes), plain, known)
    probed_s = shapes.expected_s(plain) if joined is None else shapes.refined_s(joined, known)
    return ByRelative(known, "", expected_s, expected_s * factor, probed_s, confirmed=joined is not None)


@dataclass(frozen=True, slots=True)
class RelativeErrors:
    """Mean errors of `ByRelative`'s times; None where there are none."""

    mape_refined: float | None  # with the group's 16 probes
    mape_expected_no_probe: float | None
    mape_refined_no_probe: float | None


def relative_errors(found: ByRelative, time_s: FloatArray, judged: Mask) -> RelativeErrors:
    """The errors over the shapes where `judged`."""

    def error(predicted_s: FloatArray | None) -> float | None:
        return None if predicted_s is None else mean_error(predicted_s[judged], time_s[judged])

    return RelativeErrors(error(found.probed_s), error(found.expected_s), error(found.refined_s))


def relative_json(found: ByRelative, time_s: FloatArray, judged: Mask) -> dict[str, object]:
    """The errors and whose measurements they rest on, as JSON; null with a reason where there are none."""
    errors, known = relative_errors(found, time_s, judged), found.known
    return {
        **{name: getattr(errors, name) for name in RelativeErrors.__slots__},
        "from_gpu": known and known.shipped.gpu,
        "from_kernel": known and known.shipped.kernel,
        "from_basis": known and known.basis.name.lower(),
        "probes_confirm": None if found.probed_s is None else found.confirmed,
        "not_refined": (known.why_unrefined if known else found.reason) or None,
    }


def carried_errors(groups: Iterable[tuple[Identity, Sample, int]], library: Library) -> Iterator[Carried]:
    """How far off each GPU's times are by each other GPU of `library`, by op, formats, window and basis. A group is its
    identity, some of its shapes, and how many it has."""
    found: dict[Carriage, list[tuple[float, float | None, int]]] = {}
    measured = {each.gpu for each in library.shipped}
    for identity, shapes, count in groups:
        for source in sorted(measured - {identity.gpu}):
            try:
                known = _find(shapes, identity, measured - {source}, library)
            except MissingCeiling:
                continue
            if known.basis is Basis.SIBLING and known.shipped.kernel != identity.kernel:
                continue  # an error between kernels, not between GPUs
            key = (identity.op, same_rates(identity.format), identity.cache, identity.window, known.basis)
            found.setdefault(key, []).append((*_errors(shapes, known), count))
    for key in sorted(found, key=str):
        expected = [(error, count) for error, _, count in found[key]]
        refined = [(error, count) for _, error, count in found[key] if error is not None]
        yield Carried(*key, len(expected), weighted_median(expected), weighted_median(refined) if refined else None)


def weighted_median(values: Iterable[tuple[float, int]]) -> float:
    """The value of (value, weight) pairs that halves the weights; between two such values their mean."""
    ordered = sorted(values)
    weights = np.cumsum([weight for _, weight in ordered])
    half = weights[-1] / 2
    first, last = np.searchsorted(weights, half, "left"), np.searchsorted(weights, half, "right")
    return float(ordered[int(first)][0] + ordered[int(last)][0]) / 2


def _find(shapes: Sample, identity: Identity, leave_out: Collection[str], among: Library | None = None) -> Known:
    heads = shapes.columns.get("head_dim")
    return find_known(
        GPUS[identity.gpu],
        identity.op,
        "bf16" if identity.op in COLLECTIVES else identity.format,
        cache=identity.cache,
        window=identity.window,
        head_dim=None if heads is None else float(np.median(heads)),
        kernel=identity.kernel,
        leave_out=leave_out,
        among=among,
    )


def _errors(shapes: Sample, known: Known) -> tuple[float, float | None]:
    expected_s, factor = shapes.expected_s(known.calibration), known.factor(shapes.columns)
    refined = None if factor is None else mean_error(expected_s * factor, shapes.time_s)
    return mean_error(expected_s, shapes.time_s), refined
