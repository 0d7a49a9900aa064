"""A kernel over one of its dimensions: the bound and its terms, and what is expected where its like was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from predict.errors import MissingCeiling
from predict.expected.refined import estimate_all, summary
from predict.gpus import Gpu
from predict.resources import Roofs
from predict.roofline import predict
from predict.units import find_dtype
from predict.workloads import FloatArray, make_workload

CURVE_POINTS = 40


@dataclass(frozen=True, slots=True)
class Curve:
    """Times in seconds, one for each size; those that are not known are None, and `basis` says why."""

    sizes: tuple[int, ...]
    bound_s: FloatArray
    memory_s: FloatArray | None
    compute_s: FloatArray | None
    expected_s: FloatArray | None
    refined_s: FloatArray | None
    basis: str  # what expected times rest on, and their measured error


def kernel_curve(
    op: str, dtype: str, fixed: Mapping[str, int], vary: str, sizes: Sequence[int], gpu: Gpu | None, roofs: Roofs
) -> Curve:
    """The op at each size. Raises BadWorkload for sizes that it does not take, MissingCeiling for an unknown roof."""
    workloads = [make_workload(op, {**fixed, vary: size}, find_dtype(dtype)) for size in sizes]
    predictions = [predict(each.amounts, roofs) for each in workloads]
    bound_s = np.array([float(each.napkin_s) for each in predictions])

    def terms_s(*, compute: bool) -> FloatArray | None:
        found = [
            max((float(term.time_s) for term in each.terms if term.resource.is_compute is compute), default=0.0)
            for each in predictions
        ]
        return np.array(found) if any(found) else None

    expected_s = refined_s = None
    try:
        if gpu is None:
            raise MissingCeiling("no expected time: no kernel of this machine was calibrated")
        found = estimate_all(workloads, gpu)
        expected_s, refined_s, basis = found.expected_s, found.refined_s, f"expected times: {summary(found.known)}"
        if refined_s is None:
            basis += f"; no refined time: {found.known.why_unrefined}"
    except MissingCeiling as error:
        basis = f"no expected time, only the bound: {error}" if gpu is not None else str(error)
    return Curve(tuple(sizes), bound_s, terms_s(compute=False), terms_s(compute=True), expected_s, refined_s, basis)


def sizes_between(low: int, high: int, *others: int) -> list[int]:
    """Whole sizes spread evenly on a logarithmic axis, and `others` between the two."""
    spread = (round(each) for each in np.geomspace(float(low), float(high), CURVE_POINTS).tolist())
    return sorted({*spread, *(each for each in others if low <= each <= high)})
