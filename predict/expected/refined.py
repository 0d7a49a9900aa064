"""What is expected of one kernel on a GPU: three named times, and what they rest on.

napkin    the bound of `predict.roofline`
expected  the form of the op, with constants measured on the GPU or on its nearest relative
refined   expected, times what the form leaves over at this shape (`predict.expected.residual`)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from predict.errors import MissingCeiling
from predict.expected.calibrations import Basis, Known, find_known
from predict.expected.calls import captured
from predict.expected.kernel import TIME_MODELS, expect, explain_calibration
from predict.expected.likeness import ELEMENTWISE, likeness
from predict.expected.time_model import Machine, Terms
from predict.expected.unmeasured import find_plain, unmeasured_terms
from predict.gpus import Gpu
from predict.roofline import Prediction
from predict.terminal import PLAIN_WIDTH, wrapped
from predict.units import Formats, duration, percent
from predict.workloads import FloatArray, Workload


@dataclass(frozen=True, slots=True)
class Estimate:
    """Expected and refined times of kernels of one op, an array each, and what is known of them."""

    known: Known
    formats: Formats
    terms: Terms
    factor: FloatArray | None  # of refined over expected; None if the known kernels have no residual that applies

    @property
    def expected_s(self) -> FloatArray:
        """Expected time."""
        return self.terms.time_s

    @property
    def refined_s(self) -> FloatArray | None:
        """Refined time, or None."""
        return None if self.factor is None else self.expected_s * self.factor


def estimate(workload: Workload, gpu: Gpu) -> Estimate:
    """The times of one workload: see `estimate_all`."""
    return estimate_all([workload], gpu)


def estimate_all(workloads: Sequence[Workload], gpu: Gpu) -> Estimate:
    """The times of workloads of one op and format on `gpu`, by kernels measured on it or else on its nearest relative.
    They are those in a captured graph, without the host's time of a call. Raises MissingCeiling, saying why, if nothing
    like them was measured or a fact of the GPU is not known."""
    first = workloads[0]
    known, formats = known_kernels(first, gpu)
    if first.op in ELEMENTWISE:
        moved = np.array([float(each.amounts.bytes) for each in workloads])
        return Estimate(known, formats, unmeasured_terms(gpu, moved), None)
    ours = {name: np.array([each.dims[name] for each in workloads], dtype=np.float64) for name in first.dims}
    like = likeness(first.op)
    rows = {"window": np.zeros(len(workloads)), **like.rows(ours)}
    calibration = captured(gpu, known.calibration)
    if calibration != known.calibration:
        known = _standing_in("kernels without the host that issued them", known)
    machine = Machine.of(gpu, first.dtype)
    terms = expect(rows, machine, formats, calibration)
    if like.op != first.op:
        terms = terms.without(like.left_out, np.array([float(machine.bound_s(each.amounts)) for each in workloads]))
    return Estimate(known, formats, terms, known.factor(rows))


def known_kernels(workload: Workload, gpu: Gpu) -> tuple[Known, Formats]:
    """What is known of kernels like this workload's on `gpu`, and its formats. Raises MissingCeiling."""
    like, dtype = likeness(workload.op), workload.dtype
    if workload.op in ELEMENTWISE:
        return _standing_in("a matmul's launch and bandwidth", find_plain(gpu)), Formats.of(dtype)
    if like.op not in TIME_MODELS:
        raise MissingCeiling(f"no form of expected time describes {workload.op}")
    known = find_known(
        gpu,
        like.op,
        like.format(dtype, gpu),
        cache=(like.cache or dtype).name if like.op.startswith("attention") else None,
        window="window" in workload.dims,
        head_dim=workload.dims.get("head_dim"),
    )
    if not like.is_same:
        known = _standing_in("kernels like it", known)
    elif workload.dims.get("head_dim", 0) > known.shipped.ranges.get("head_dim", (0, np.inf))[1]:
        known = _standing_in("kernels of smaller heads", known)
    return known, like.formats(dtype)


def _standing_in(what: str, known: Known) -> Known:
    """The same for kernels that nobody measured: neither errors nor residuals speak of them."""
    return replace(known, expected_error=None, refined_error=None, stand_in=what)


def with_estimate(prediction: Prediction, found: Estimate) -> Prediction:
    """The prediction with its expected time and its refined time."""
    refined_s = None if found.refined_s is None else float(found.refined_s[0])
    return replace(prediction, expected_s=float(found.expected_s[0]), refined_s=refined_s)


def basis_text(known: Known) -> str:
    """What the times rest on: measured on it; or on which GPU instead."""
    what = f"by {known.stand_in}, measured" if known.stand_in else "measured"
    match known.basis:
        case Basis.MEASURED:
            return f"{what} on {known.shipped.gpu}"
        case Basis.SIBLING:
            return f"{what} on {known.shipped.gpu}, of the same architecture"
        case Basis.OTHER:
            return f"{what} on {known.shipped.gpu}, of another architecture: a poor guess"


def errors_text(known: Known) -> str:
    """The measured mean errors of such times: off by 7.1 % on average, refined by 4.9 %."""
    if known.expected_error is None:
        return "how far off such times are was not measured"
    text = f"off by {percent(known.expected_error)} on average"
    if known.why_unrefined or known.refined_error is None:
        return text
    return f"expected is {text}, refined by {percent(known.refined_error)}"


def summary(known: Known) -> str:
    """What the times rest on and how far off they are, in one line."""
    return f"{basis_text(known)}; {errors_text(known)}"


def explain_estimate(found: Estimate, width: int = PLAIN_WIDTH) -> str:
    """The terms, the residual, what they rest on, and the constants, at most `width` columns wide."""
    lines = [f"expected {duration(float(found.expected_s[0]))}: the sum of these terms, less their overlap"]
    parts = {name: float(part[0]) for name, part in found.terms.parts.items()}
    lines += [f"    {name:<12} {duration(time_s, digits=4):>9}" for name, time_s in parts.items() if time_s]
    if found.factor is None or found.refined_s is None:
        lines += wrapped(f"refined: not known, {found.known.why_unrefined}", width)
    else:
        lines.append(f"refined {duration(float(found.refined_s[0]))}: expected x residual")
        lines.append(f"    {'residual':<12} {float(found.factor[0]):>9.3f}")
    lines += wrapped(summary(found.known), width)
    return "\n".join([*lines, explain_calibration(found.known.calibration, found.formats, width)])


BASIS_KEYS = ("basis", "measured_on", "measured_kernel", "expected_error", "refined_error", "not_refined")


def estimate_json(found: Estimate | None, reason: str = "") -> dict[str, object]:
    """The estimate of one kernel as JSON in SI units; without one every value is null, but for the reason."""
    if found is None:
        names = ("expected_s", "refined_s", "residual", *BASIS_KEYS, "expected_terms", "calibration")
        return {**dict.fromkeys(names), "not_expected": reason}
    known, calibration = found.known, found.known.calibration
    return {
        "expected_s": float(found.expected_s[0]),
        "refined_s": None if found.refined_s is None else float(found.refined_s[0]),
        "residual": None if found.factor is None else float(found.factor[0]),
        **known_json(known),
        "expected_terms": {name: float(part[0]) for name, part in found.terms.parts.items()},
        "calibration": {
            "source": calibration.source,
            "probes": calibration.probes,
            "constants": dict(calibration.constants),
            "switches": dict(calibration.switches),
        },
        "not_expected": None,
    }


def known_json(known: Known) -> dict[str, object]:
    """What times rest on, and their measured mean errors, as JSON."""
    refined_error = None if known.why_unrefined else known.refined_error
    values = (
        known.basis.name.lower(),
        known.shipped.gpu,
        known.shipped.kernel,
        known.expected_error,
        refined_error,
        known.why_unrefined or None,
    )
    return dict(zip(BASIS_KEYS, values, strict=True))
