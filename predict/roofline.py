"""The napkin bound. A term is an amount divided by its ceiling; the largest term is the lower bound of the time.

Source: Williams, Waterman, Patterson, "Roofline: an insightful visual performance model", CACM 52(4), 2009.
"""

from dataclasses import dataclass

import numpy as np

from predict.errors import MissingCeiling
from predict.resources import WRITTEN_SHARE, Resource, Roofs, find_ceiling
from predict.units import duration
from predict.workloads import Amounts, Number, Workload


@dataclass(frozen=True, slots=True)
class Term:
    """One line of the napkin: an amount over its ceiling."""

    resource: Resource
    amount: Number  # FLOP or bytes
    per_s: Number  # ceiling

    @property
    def time_s(self) -> Number:
        """Time in seconds if this resource were the only limit."""
        return self.amount / self.per_s


@dataclass(frozen=True, slots=True)
class Prediction:
    """The predicted times of one workload, or of a whole sweep if the amounts are arrays."""

    terms: tuple[Term, ...]
    expected_s: Number | None = None  # time of the calibrated model; None without a calibration
    refined_s: Number | None = None  # times what the model leaves over by shape; None where that is not known

    @property
    def napkin_s(self) -> Number:
        """Lower bound: compute and memory overlap fully. 0 only for work without FLOP and bytes (`launch`)."""
        return _reduce(np.maximum, self.terms)

    @property
    def serial_s(self) -> Number:
        """Time if compute and memory do not overlap at all: the sum of the terms."""
        return _reduce(np.add, self.terms)

    @property
    def bound(self) -> Resource | None:
        """The resource of one workload's largest term; None without terms."""
        return max(self.terms, key=lambda term: float(term.time_s)).resource if self.terms else None


def predict(amounts: Amounts, roofs: Roofs) -> Prediction:
    """Predict the time of `amounts` under `roofs`.

    All DRAM traffic is one term, over the `dram` roof or else over the measured roof with the nearest mix of reads and
    writes. Raises MissingCeiling if a needed roof is absent.
    """
    terms = [
        Term(unit, flop, find_ceiling(unit, roofs).per_s) for unit, flop in amounts.flop_by_unit.items() if np.any(flop)
    ]
    if np.any(amounts.bytes):
        terms.append(_dram_term(amounts, roofs))
    return Prediction(tuple(terms))


def explain(workload: Workload, machine: str, prediction: Prediction) -> str:
    """The arithmetic of one prediction, line by line."""
    head = f"{workload.id} on {machine}    napkin {duration(float(prediction.napkin_s))}"
    if prediction.bound is not None:
        head += f"    bound: {prediction.bound}"
    if prediction.expected_s is not None:
        head += f"    expected {duration(float(prediction.expected_s))}"
    if prediction.refined_s is not None:
        head += f"    refined {duration(float(prediction.refined_s))}"
    return "\n".join([head, *(_explain_term(term) for term in prediction.terms)])


def _explain_term(term: Term) -> str:
    unit = "FLOP" if term.resource.is_compute else "byte"
    return (
        f"    {term.resource:<12} {float(term.amount):.3e} {unit} / {float(term.per_s):.3e} per s"
        f" = {duration(float(term.time_s), digits=4):>9}"
    )


def _dram_term(amounts: Amounts, roofs: Roofs) -> Term:
    """DRAM traffic over the `dram` roof, or else over the measured roof with the nearest written share."""
    if Resource.DRAM in roofs:
        return Term(Resource.DRAM, amounts.bytes, roofs[Resource.DRAM].per_s)
    mixes = [mix for mix in WRITTEN_SHARE if mix in roofs]
    if not mixes:
        raise MissingCeiling("no DRAM roof is known for this machine; measure one with `python -m bench run`")
    written_share = np.asarray(amounts.bytes_written / amounts.bytes)
    distance = np.abs(written_share[..., np.newaxis] - np.array([WRITTEN_SHARE[mix] for mix in mixes]))
    nearest = distance.argmin(axis=-1)
    if nearest.ndim == 0:
        mix = mixes[int(nearest)]
        return Term(mix, amounts.bytes, roofs[mix].per_s)
    return Term(Resource.DRAM, amounts.bytes, np.array([roofs[mix].per_s for mix in mixes])[nearest])


def _reduce(ufunc: np.ufunc, terms: tuple[Term, ...]) -> Number:
    total: Number = 0.0
    for term in terms:
        total = ufunc(total, term.time_s)
    return total if np.ndim(total) else float(total)
