"""The record: one JSON line per (workload, implementation), with everything needed to judge it again later.

It stores raw samples and amounts, never rates, means or percentages. `napkin_s`, `serial_s`, `bound`, `energy_j` and
`workload.id` are written for readers of the JSON and derived again on loading. Needs no torch.
"""

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from statistics import median
from typing import Any, TypeVar

from predict.errors import BadRecord, MissingCeiling, NapkinError
from predict.gpus import NVIDIA_GPUS, held_clock_roofs
from predict.json_file import strict_json
from predict.resources import Roofs
from predict.roofline import Prediction, predict
from predict.units import DType, find_dtype
from predict.workloads import OPS, Amounts, Workload, make_workload, ordered_dims

# Version of the line's layout. 1: first. A field that was added later has a default, which is what older lines
# mean, and does not raise the version.
SCHEMA = 1
# Version of how times are taken: results of different harnesses are not comparable. 1: first.
# 2: GPU work is timed in graphs or behind a hold that is verified; input sets exceed caches four times.
HARNESS = 2

# Before the name of a function that a user measured: it stands where other records have an op, and has no dimensions.
FUNCTION = "function:"

LARGEST_NUMBER = 1e30  # no time, rate or amount is larger
LARGEST_SIZE = 2**53  # of a dimension: what a float64 counts exactly

T = TypeVar("T")


class Status(StrEnum):
    """What became of one case; every status but `measured` carries a reason."""

    MEASURED = "measured"
    INCORRECT = "incorrect"  # the result is wrong, so it was not timed
    OUT_OF_MEMORY = "out_of_memory"  # would not or did not fit
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    IMPOSSIBLE = "impossible"  # faster than physics: the timing or the formula is wrong
    THROTTLED = "throttled"  # the card slowed itself down for heat or a power brake
    SKIPPED = "skipped"  # not supported here, or no time left


@dataclass(frozen=True, slots=True)
class Measurement:
    """All samples of one case, in order. `None` where the machine does not report it."""

    times_s: tuple[float, ...]  # per launch
    method: str  # "cuda_graph", "cuda_event", "as_issued" or "wall_clock"
    launches_per_sample: int  # each time is their mean
    stop: str  # "converged": the median is known well enough; "budget": time ran out first
    cold_l2: bool | None  # each launch found its operands outside the last-level cache
    sm_hz: float | None  # median of the samples below
    power_w: float | None  # median of the samples below
    temperature_c: float | None  # the highest
    throttle: tuple[str, ...] | None  # every reason why the card ran slower than asked
    peak_bytes: int | None = None  # memory that one call needs in all, inputs included; None in older CPU records
    held: bool | None = None  # False: the host was slower than the hold, and its time is in the samples
    host_s: float | None = None  # what the host needs to issue one call
    not_captured: str | None = None  # why capturing a CUDA graph failed, if it was tried
    # Read while the device worked; one for each time, or none.
    sm_hz_samples: tuple[float | None, ...] = ()
    power_w_samples: tuple[float | None, ...] = ()  # None until the meter has caught up

    @property
    def energy_j(self) -> float | None:
        """Energy of one call: power while such calls ran x time of one. None if power is unknown."""
        return None if self.power_w is None else self.power_w * median(self.times_s)


@dataclass(frozen=True, slots=True)
class Check:
    """Error against fp64, and the allowed error (bench/check.py)."""

    relative_error: float  # |actual - reference| / |reference|, Frobenius norms
    max_error: float  # largest |actual - reference| over the root mean square of the reference
    relative_bound: float  # the most relative_error allowed
    max_bound: float  # the most max_error allowed

    @property
    def passed(self) -> bool:
        """Both errors are within their bounds (NaN is not)."""
        return self.relative_error <= self.relative_bound and self.max_error <= self.max_bound


@dataclass(frozen=True, slots=True)
class RoofSet:
    """The roofs that judge a record."""

    datasheet: Roofs  # the vendor's; empty on a CPU and for an unknown card
    measured: Roofs  # by this run's roof probes

    @property
    def primary(self) -> Roofs:
        """The roofs of the prediction: the datasheet's, or the measured ones if there is none."""
        return self.datasheet or self.measured


@dataclass(frozen=True, slots=True)
class Environment:
    """The machine and the software of one run. `None` where it does not apply or is unknown."""

    device: str  # "cuda" or "cpu"
    name: str  # as NVML or the operating system reports it
    gpu: str | None  # the SKU in predict.gpus; None for a CPU or a card that the table lacks
    sm: int | None  # compute capability x 10
    sm_count: int | None
    memory_bytes: int | None  # of the GPU; of a CPU run, what this process may use
    last_level_cache_bytes: int | None  # L2 of a GPU, L3 of a CPU
    threads: int | None  # CPU threads that torch uses; None on a GPU
    driver: str | None  # version
    cuda: str | None  # version that torch was built for
    power_limit_w: float | None  # that the driver enforces
    max_sm_hz: float | None  # the highest SM clock that the driver offers
    ecc: bool | None  # memory is protected
    mig: bool | None  # the device is a slice, or the card is cut into slices
    torch: str  # version, like the next two
    triton: str | None
    python: str
    platform: str  # operating system and machine
    commit: str | None  # of this checkout
    dirty: bool | None  # the checkout has changes beside the commit
    warm_cache: bool  # --warm-cache was given: operands may be in the last-level cache
    forced: bool  # --force was given although this is not the card that --gpu named
    mismatches: tuple[str, ...]  # where the driver contradicts the table
    utc: str  # start of the run, ISO 8601
    packages: Mapping[str, str] = field(default_factory=dict)  # versions of optional peers; ours without a commit
    cpus: float | None = None  # that this process may use; a container's quota may be half of one
    unknown: tuple[str, ...] = ()  # of a GPU: what neither driver nor torch reports


@dataclass(frozen=True, slots=True)
class Record:
    """One case: what was asked, predicted, checked and measured, and on what machine."""

    schema: int  # SCHEMA of the program that wrote it
    harness: int  # HARNESS of the program that wrote it
    workload: Workload
    implementation: str  # its name in kernels.catalog, with the configuration after "@"; or a user's module:function
    status: Status
    reason: str | None  # one line; None only if measured
    prediction: Prediction | None  # by the primary roofs; None if they lack one that it needs
    roofs: RoofSet
    check: Check | None  # None if the result was not checked
    measurement: Measurement | None  # None if the case was not timed
    environment: Environment
    printed: str | None = None  # the end of what a user's function printed; None of other implementations

    @property
    def key(self) -> tuple[str, str]:
        """What was asked; a later record of the same key replaces this one in a file."""
        return (self.workload.id, self.implementation)

    @property
    def roof_times_s(self) -> Mapping[str, float]:
        """The least time under each roof that is known: `datasheet`, `measured`, and, where arithmetic is the bound,
        `held_clock`. None is 0."""
        amounts = self.workload.amounts
        found = {
            "datasheet": _least_s(amounts, self.roofs.datasheet),
            "measured": _least_s(amounts, self.roofs.measured),
        }
        gpu = NVIDIA_GPUS.get(self.environment.gpu or "")
        sm_hz = self.measurement.sm_hz if self.measurement else None
        bound = self.prediction.bound if self.prediction else None
        if gpu and sm_hz and bound is not None and bound.is_compute:
            found["held_clock"] = _least_s(Amounts(amounts.flop_by_unit, 0, 0), held_clock_roofs(gpu, sm_hz))
        return {roof: time_s for roof, time_s in found.items() if time_s}


def _least_s(amounts: Amounts, roofs: Roofs) -> float | None:
    """The napkin's time; None if a roof is missing."""
    try:
        return float(predict(amounts, roofs).napkin_s)
    except MissingCeiling:
        return None


def to_line(record: Record) -> str:
    """One line of JSON, without the newline. Raises ValueError for NaN or infinity: JSON has neither."""
    return json.dumps(encode(record), allow_nan=False, separators=(",", ":"))


def from_line(line: str) -> Record:
    """Read what `to_line` wrote. Raises BadRecord naming a field that is missing, unknown or mistyped, out of range, or
    that contradicts another."""
    try:
        data = strict_json(line)
    except ValueError as error:
        raise BadRecord(str(error)) from None
    if "\\ud" in line.lower() and not _is_text(data):
        raise BadRecord("a text in it holds half of a surrogate pair, which no file can; take it out")
    if not isinstance(data, dict) or "schema" not in data:
        raise BadRecord("not a napkin-bench record (no 'schema')")
    if data["schema"] != SCHEMA:
        raise BadRecord(f"schema {data['schema']!r}, this version reads {SCHEMA}; use the version that wrote it")
    record = decode(Record, data)
    _check(record)
    return record


def _is_text(data: object) -> bool:
    """Whether every text in JSON can be written as UTF-8."""
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _check(record: Record) -> None:
    """Raise BadRecord for values that have the right types but cannot be, or that contradict each other."""
    _check_workload(record.workload)
    _check_prediction(record)
    if record.measurement is not None:
        _check_measurement(record.measurement)
    if record.status is not Status.MEASURED:
        return
    if record.measurement is None:
        raise BadRecord("status measured, but no measurement")
    if record.check is not None and not record.check.passed:
        raise BadRecord("status measured, but its check failed: error over bound")


def _check_workload(workload: Workload) -> None:
    """Amounts follow from op, dimensions and format; only a user's function has some of its own."""
    op, dims = workload.op, workload.dims
    is_function = op.startswith(FUNCTION)
    known = not dims if is_function else op in OPS and ordered_dims(op, frozenset(dims)) == tuple(dims)
    if not known:
        raise BadRecord(f"no op {op!r} with dimensions {', '.join(dims) or 'none'}")
    for name, size in dims.items():
        if not 1 <= size <= LARGEST_SIZE:
            raise BadRecord(f"workload.dims.{name} must be a whole number from 1 to {LARGEST_SIZE:,}, not {size}")
    amounts = workload.amounts
    _not_negative("workload.amounts", {"bytes_read": amounts.bytes_read, "bytes_written": amounts.bytes_written})
    _not_negative("workload.amounts.flop_by_unit", amounts.flop_by_unit)
    if is_function:
        return
    try:
        counted = make_workload(op, dims, workload.dtype).amounts
    except NapkinError as error:
        raise BadRecord(f"workload: {error}") from None
    for name in ("bytes_read", "bytes_written", "flop_by_unit"):
        told, right = getattr(amounts, name), getattr(counted, name)
        if told != right:
            raise BadRecord(f"workload.amounts.{name} {_short(told)} is not that of {workload.id}: {_short(right)}")


def _check_prediction(record: Record) -> None:
    """Rates of a prediction are above zero; a roof sees to its own."""
    for term in record.prediction.terms if record.prediction else ():
        _positive("prediction.terms", {f"{term.resource}.per_s": term.per_s})
        _not_negative("prediction.terms", {f"{term.resource}.amount": term.amount})


def _check_measurement(found: Measurement) -> None:
    if not found.times_s or not all(0 < time_s < math.inf for time_s in found.times_s):
        raise BadRecord("measurement.times_s must be positive numbers, and at least one")
    readings = ("launches_per_sample", "sm_hz", "peak_bytes", "host_s")
    _positive("measurement", {name: value for name in readings if (value := getattr(found, name)) is not None})
    watts = [each for each in (found.power_w, *found.power_w_samples) if each is not None]
    _not_negative("measurement", {"power_w": min(watts, default=0)})


def _positive(path: str, values: Mapping[Any, Any]) -> None:
    for name, value in values.items():
        if not value > 0:
            raise BadRecord(f"{path}.{name} must be above 0, not {value}")


def _not_negative(path: str, values: Mapping[Any, Any]) -> None:
    for name, value in values.items():
        if not value >= 0:
            raise BadRecord(f"{path}.{name} must not be negative, not {value}")


def _short(value: object) -> str:
    return str(encode(value))[:80]


# Written beside the stored fields for readers, never read back.
_DERIVED: Mapping[type, tuple[str, ...]] = types.MappingProxyType(
    {Workload: ("id",), Prediction: ("napkin_s", "serial_s", "bound"), Measurement: ("energy_j",)}
)


def encode(value: Any) -> Any:
    """A dataclass and all that it holds, as values that `json` can write."""
    if isinstance(value, DType):
        return value.name
    if dataclasses.is_dataclass(value):
        names = (*(field.name for field in dataclasses.fields(value)), *_DERIVED.get(type(value), ()))
        return {name: encode(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    return value


# A decoder takes a JSON value and its path (for messages), and returns the typed value. Built once per type, because
# reading type hints is slow and a results file has many lines.
Decoder = Callable[[Any, str], Any]


def decode(kind: type[T], data: Any) -> T:
    """The inverse of `encode` for a dataclass `kind`; a missing field takes its default. Raises BadRecord naming a
    missing, unknown or mistyped field."""
    hashable: Any = kind
    decoded: T = _decoder(hashable)(data, "")
    return decoded


@functools.cache
def _decoder(kind: Any) -> Decoder:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _optional_decoder(arguments)
    if origin is tuple:
        return _tuple_decoder(arguments[0])
    if origin is not None and issubclass(origin, Mapping):
        return _mapping_decoder(arguments[0], arguments[1])
    if kind is DType:
        return functools.partial(_decode_named, find_dtype)
    if kind in (Environment, RoofSet):
        return _repeating(_dataclass_decoder(kind))
    if dataclasses.is_dataclass(kind):
        return _dataclass_decoder(kind)
    if issubclass(kind, Enum):
        return functools.partial(_decode_named, kind)
    return functools.partial(_expect, kind)


def _optional_decoder(kinds: tuple[Any, ...]) -> Decoder:
    """A value that may be absent; or a number, which in predictions may be an array, but not in a record."""
    optional = type(None) in kinds
    decode = _decoder(next(kind for kind in kinds if kind is not type(None)))
    return lambda value, path: None if optional and value is None else decode(value, path)


def _tuple_decoder(kind: Any) -> Decoder:
    decode = _decoder(kind)
    return lambda value, path: tuple([decode(item, path) for item in _expect(list, value, path)])


def _mapping_decoder(key_kind: Any, kind: Any) -> Decoder:
    decode_key, decode = _decoder(key_kind), _decoder(kind)
    return lambda value, path: {
        decode_key(name, path): decode(item, f"{path}.{name}") for name, item in _expect(dict, value, path).items()
    }


def _dataclass_decoder(kind: Any) -> Decoder:
    decoders = {name: _decoder(hint) for name, hint in typing.get_type_hints(kind).items()}
    derived = set(_DERIVED.get(kind, ()))
    defaults = {each.name: (each.default, each.default_factory) for each in dataclasses.fields(kind)}
    needed = {name for name, default in defaults.items() if default == (dataclasses.MISSING, dataclasses.MISSING)}

    def decode(value: Any, path: str) -> Any:
        data = _expect(dict, value, path)
        prefix = f"{path}." if path else ""
        given = data.keys() - derived
        for name in sorted((given - decoders.keys()) | (needed - given)):
            raise BadRecord(f"{'unknown' if name in given else 'missing'} field {prefix}{name}")
        return kind(**{name: decoders[name](data[name], prefix + name) for name in decoders if name in given})

    return decode


def _repeating(decode: Decoder) -> Decoder:
    """Returns the last object again for the same text: such fields are the same in every line of a run."""
    last: dict[str, Any] = {}

    def decode_again(value: Any, path: str) -> Any:
        text = repr(value)  # not the value: 1 equals true
        if text not in last:
            last.clear()
            last[text] = decode(value, path)
        return last[text]

    return decode_again


def _expect(kind: type, value: Any, path: str) -> Any:
    if type(value) is kind or (kind is float and type(value) is int):  # an exact count stays exact
        if isinstance(value, int | float) and not -LARGEST_NUMBER < value < LARGEST_NUMBER:
            raise BadRecord(f"{path} is too large a number")
        return value
    raise BadRecord(f"{path} should be {kind.__name__}, not {json.dumps(value)[:40]}")


def _decode_named(find: Callable[[str], Any], value: Any, path: str) -> Any:
    try:
        return find(_expect(str, value, path))
    except (NapkinError, ValueError):
        raise BadRecord(f"{path} has the unknown value {value!r}") from None
