"""What is expected of one kernel on a GPU: three named times, and what they rest on.

napkin    the bound of `predict.roofline`
expected  the form of the op, with constants measured on the GPU or on its nearest relative
refined   expected, times what the form leaves over at this shape (`predict.expected.residual`)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from predict.errors import MissingCeiling
from predict.expected.calibrations import Basis, Known, find_known
from predict.expected.kernel import TIME_MODELS, expect, explain_calibration
from predict.expected.time_model import Machine, Terms
from predict.gpus import Gpu
from predict.roofline import Prediction
from predict.terminal import PLAIN_WIDTH, wrapped
from predict.units import DTYPES, Formats, duration, percent
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


# Our ops that a measured op describes, with the format of the cache where it is another.
_MEASURED_AS: Mapping[str, tuple[str, str | None]] = MappingProxyType(
    {"attention_window": ("attention_prefill", None), "attention_decode_fp8": ("attention_decode", "fp8")}
)
# Our formats that tables call otherwise.
_TABLES_CALL = MappingProxyType({"fp4": "nvfp4"})


def estimate(workload: Workload, gpu: Gpu) -> Estimate:
    """The times of one workload: see `estimate_all`."""
    return estimate_all([workload], gpu)


def estimate_all(workloads: Sequence[Workload], gpu: Gpu) -> Estimate:
    """The times of workloads of one op and format on `gpu`, by kernels measured on it or else on its nearest relative.
    Raises MissingCeiling, saying why, if nothing like them was measured or a fact of the GPU is not known."""
    first = workloads[0]
    known, formats = known_kernels(first, gpu)
    rows = {name: np.array([each.dims[name] for each in workloads], dtype=np.float64) for name in first.dims}
    rows.setdefault("window", np.zeros(len(workloads)))
    terms = expect(rows, Machine.of(gpu, first.dtype), formats, known.calibration)
    return Estimate(known, formats, terms, known.factor(rows))


def known_kernels(workload: Workload, gpu: Gpu) -> tuple[Known, Formats]:
    """What is known of kernels like this workload's on `gpu`, and its formats. Raises MissingCeiling."""
    op, cache = _MEASURED_AS.get(workload.op, (workload.op, None))
    dtype = workload.dtype
    if op not in TIME_MODELS:
        raise MissingCeiling(f"no form of expected time describes {op}")
    known = find_known(
        gpu,
        op,
        _TABLES_CALL.get(dtype.name, dtype.name),
        cache=(cache or dtype.name) if op.startswith("attention") else None,
        window="window" in workload.dims,
        head_dim=workload.dims.get("head_dim"),
    )
    return known, Formats.of(dtype, kv=DTYPES[cache] if cache else None)


def with_estimate(prediction: Prediction, found: Estimate) -> Prediction:
    """The prediction with its expected time and its refined time."""
    refined_s = None if found.refined_s is None else float(found.refined_s[0])
    return replace(prediction, expected_s=float(found.expected_s[0]), refined_s=refined_s)


def basis_text(known: Known) -> str:
    """What the times rest on: measured on it; or on which GPU instead."""
    match known.basis:
        case Basis.MEASURED:
            return f"measured on {known.shipped.gpu}"
        case Basis.SIBLING:
            return f"measured on {known.shipped.gpu}, of the same architecture"
        case Basis.OTHER:
            return f"measured on {known.shipped.gpu}, of another architecture: a poor guess"


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
