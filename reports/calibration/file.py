"""A run's own calibrations, RUN/calibration.json: `python -m reports calibrate` writes it; reading it is strict."""

import json
from dataclasses import dataclass
from pathlib import Path

from bench.record import HARNESS, Environment, decode, encode
from predict.errors import BadRecord
from predict.expected.calibrations import Known, same_rates
from predict.expected.kernel import TIME_MODELS
from predict.expected.time_model import Calibration
from predict.gpus import NVIDIA_GPUS
from predict.json_file import strict_json
from predict.units import DType, Formats, percent

CALIBRATION = "calibration.json"
# Version of the file's layout.
SCHEMA = 1
ROUNDING = 1e-9  # relative; lets a constant at the end of its range pass
REMEDY = "fit it again with `python -m reports calibrate RUN`, or remove it"


@dataclass(frozen=True, slots=True)
class Refined:
    """Constants that go with the residual of kernels that ship."""

    calibration: Calibration
    gpu: str  # whose residual
    kernel: str
    error: float | None  # mean of |refined / measured - 1| over the run's other shapes

    def is_by(self, known: Known) -> bool:
        """Whether `known` is what the constants go with."""
        return (self.gpu, self.kernel) == (known.shipped.gpu, known.shipped.kernel)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A calibration, and the format in which its rows multiply."""

    dtype: DType
    calibration: Calibration
    error: float | None = None  # mean of |expected / measured - 1| over the run's other shapes
    refined: Refined | None = None  # None if the probes confirm no residual that ships


@dataclass(frozen=True, slots=True)
class OwnCalibrations:
    """The calibrations that one run's probes give for its GPU: at most one for each op and format."""

    schema: int
    harness: int  # version of the harness that took the times
    gpu: str
    fitted: tuple[Fitted, ...]

    def find(self, op: str, dtype: DType) -> Fitted | None:
        """What was fitted to `op` in `dtype`, else in a format with the same rates, else None."""
        known = {(each.calibration.op, each.dtype.name): each for each in self.fitted}
        return known.get((op, dtype.name)) or known.get((op, same_rates(dtype.name)))


def errors_text(fitted: Fitted) -> str:
    """The mean errors over the run's other shapes, as the end of a sentence; "" if they are not known."""
    if fitted.error is None:
        return ""
    text = f", off by {percent(fitted.error)} on average over its other shapes"
    refined = fitted.refined.error if fitted.refined else None
    return text if refined is None else f"{text}, refined by {percent(refined)}"


def to_text(own: OwnCalibrations) -> str:
    """The file's text; the same calibrations give the same text."""
    return json.dumps(encode(own), allow_nan=False, indent=2) + "\n"


def read_calibrations(file: Path, environment: Environment) -> OwnCalibrations:
    """Read a file that `to_text` wrote, for records of `environment`.

    Raises BadRecord that names the file and its fault: something is missing, unknown, of the wrong type or out of
    range, or belongs to another GPU or harness.
    """
    try:
        own = _decode(file)
        _check(own, environment)
    except BadRecord as error:
        raise BadRecord(f"{file}: {error}; {REMEDY}") from None
    return own


def _decode(file: Path) -> OwnCalibrations:
    try:
        data = strict_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadRecord(f"cannot be read ({error})") from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise BadRecord(f"not a calibration file of schema {SCHEMA}")
    return decode(OwnCalibrations, data)


def _check(own: OwnCalibrations, environment: Environment) -> None:
    """Raise BadRecord for values of the right type that make no sense here."""
    if own.gpu not in NVIDIA_GPUS or own.gpu != environment.gpu:
        raise BadRecord(f"calibrates {own.gpu!r}, but the records are of {environment.gpu or environment.name}")
    if own.harness != HARNESS:
        raise BadRecord(f"its times were taken by harness {own.harness}, but this is harness {HARNESS}")
    seen: set[tuple[str, str]] = set()
    for each in own.fitted:
        key = (each.calibration.op, each.dtype.name)
        if key in seen:
            raise BadRecord(f"calibrates {key[0]} in {key[1]} twice")
        seen.add(key)
        for calibration in (each.calibration, *([each.refined.calibration] if each.refined else [])):
            _check_calibration(calibration, Formats.of(each.dtype))


def _check_calibration(calibration: Calibration, formats: Formats) -> None:
    model = TIME_MODELS.get(calibration.op)
    if model is None:
        raise BadRecord(f"op {calibration.op!r} has no expected time; known: {', '.join(TIME_MODELS)}")
    needed = set(model.fitted(formats))
    for what, names, known, must in (
        ("constant", calibration.constants, model.constants, needed),
        ("switch", calibration.switches, model.switches, set(model.switches)),
    ):
        for name in sorted((names.keys() - known.keys()) | (must - names.keys())):
            raise BadRecord(f"{'unknown' if name in names else 'missing'} {calibration.op} {what} {name!r}")
    for name, value in calibration.constants.items():
        constant = model.constants[name]
        if not constant.low * (1 - ROUNDING) <= value <= constant.high * (1 + ROUNDING):
            raise BadRecord(f"{name} of {calibration.op} is {value:g}, not from {constant.low:g} to {constant.high:g}")
