"""The record: one JSON line per (workload, implementation), with everything needed to judge it again later.

Raw samples and amounts are stored; rates, means and percentages never are. `napkin_s`, `serial_s`, `bound`,
`energy_j` and `workload.id` are written for readers of the JSON and derived again when it is loaded. Needs no torch.
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

from predict.errors import BadRecord, NapkinError
from predict.resources import Roofs
from predict.roofline import Prediction
from predict.units import DType, find_dtype
from predict.workloads import OPS, Workload, dim_names

# Version of the line's layout. 1: first. A field that was added later has a default, which is what a line without it
# says; it leaves the version alone, since older lines mean what they meant.
SCHEMA = 1
# Version of how times are taken: results of different harnesses are not comparable. 1: first.
# 2: GPU work is timed in graphs or behind a hold that is looked up; caches are exceeded four times.
HARNESS = 2

T = TypeVar("T")


class Status(StrEnum):
    """What became of one case; everything but `measured` carries a reason."""

    MEASURED = "measured"
    INCORRECT = "incorrect"  # the result is wrong, so it was not timed
    OUT_OF_MEMORY = "out_of_memory"  # would not fit, or did not
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    IMPOSSIBLE = "impossible"  # faster than physics: the timing or the formula is wrong
    THROTTLED = "throttled"  # the card slowed itself down for heat or a power brake
    SKIPPED = "skipped"  # not supported here, or no time left


@dataclass(frozen=True, slots=True)
class Measurement:
    """All samples of one case, in order. `None` where the machine cannot tell."""

    times_s: tuple[float, ...]  # per launch
    method: str  # "cuda_graph", "cuda_event", "as_issued" or "wall_clock"
    launches_per_sample: int
    stop: str  # "converged": the median is known well enough; "budget": time ran out first
    cold_l2: bool | None  # were the operands out of the last-level cache when each launch began
    sm_hz: float | None  # medians of the samples below
    power_w: float | None
    temperature_c: float | None  # the highest
    throttle: tuple[str, ...] | None
    peak_bytes: int | None = None  # device memory that one call needs in all, its inputs included
    held: bool | None = None  # False: the host was slower than the hold, and its time is in the samples
    host_s: float | None = None  # what the host needs to issue one call
    not_captured: str | None = None  # why a CUDA graph that was tried could not be had
    # Read while the device was at work; one for each time, or none. Power is None until its meter has caught up.
    sm_hz_samples: tuple[float | None, ...] = ()
    power_w_samples: tuple[float | None, ...] = ()

    @property
    def energy_j(self) -> float | None:
        """Energy of one call: the power while such calls ran, times the time of one. None where power is not known."""
        return None if self.power_w is None else self.power_w * median(self.times_s)


@dataclass(frozen=True, slots=True)
class Check:
    """Error against fp64 and how much of it an independent low-precision computation of the same inputs has."""

    relative_error: float  # |actual - reference| / |reference|, Frobenius norms
    max_error: float  # largest |actual - reference| over the root mean square of the reference
    relative_bound: float
    max_bound: float

    @property
    def passed(self) -> bool:
        """True where both errors are within their bounds (NaN is not)."""
        return self.relative_error <= self.relative_bound and self.max_error <= self.max_bound


@dataclass(frozen=True, slots=True)
class RoofSet:
    """The roofs a record is judged by: the vendor's (empty on a CPU) and those that this run measured."""

    datasheet: Roofs
    measured: Roofs

    @property
    def primary(self) -> Roofs:
        """What the prediction uses: the datasheet, or where there is none what was measured."""
        return self.datasheet or self.measured


@dataclass(frozen=True, slots=True)
class Environment:
    """The machine and the software of one run. `None` where it does not apply or cannot be told."""

    device: str  # "cuda" or "cpu"
    name: str  # as NVML or the operating system reports it
    gpu: str | None  # the SKU in predict.gpus, None for a CPU or a card that the table lacks
    sm: int | None
    sm_count: int | None
    memory_bytes: int | None
    last_level_cache_bytes: int | None  # L2 of a GPU, L3 of a CPU
    threads: int | None  # CPU threads that torch uses; None on a GPU
    driver: str | None
    cuda: str | None
    power_limit_w: float | None
    max_sm_hz: float | None
    ecc: bool | None
    mig: bool | None
    torch: str
    triton: str | None
    python: str
    platform: str
    commit: str | None
    dirty: bool | None
    warm_cache: bool  # --warm-cache was given: operands may sit in the last-level cache
    forced: bool  # --force was given although this is not the machine that --gpu named
    mismatches: tuple[str, ...]  # where the driver contradicts the table
    utc: str  # start of the run, ISO 8601
    packages: Mapping[str, str] = field(default_factory=dict)  # versions of the optional peers that are installed
    cpus: float | None = None  # that the process may use; a container's quota may be half of one
    unknown: tuple[str, ...] = ()  # of a GPU: what neither driver nor torch tells


@dataclass(frozen=True, slots=True)
class Record:
    """One case: what was asked, predicted, checked and measured, and on what."""

    schema: int
    harness: int
    workload: Workload
    implementation: str
    status: Status
    reason: str | None  # one line; None only where measured
    prediction: Prediction | None
    roofs: RoofSet
    check: Check | None
    measurement: Measurement | None
    environment: Environment

    @property
    def key(self) -> tuple[str, str]:
        """What this record is the answer to; a later record of the same key in a file replaces it."""
        return (self.workload.id, self.implementation)


def to_line(record: Record) -> str:
    """One line of JSON, without the newline. Raises ValueError for NaN or infinity: JSON has neither."""
    return json.dumps(encode(record), allow_nan=False, separators=(",", ":"))


def from_line(line: str) -> Record:
    """Read what `to_line` wrote. Raises BadRecord naming the field that is missing, unknown or of another kind."""
    try:
        data = json.loads(line)
    except json.JSONDecodeError as error:
        raise BadRecord(f"not JSON ({error.msg} at column {error.colno})") from None
    if not isinstance(data, dict) or "schema" not in data:
        raise BadRecord("not a napkin-bench record (no 'schema')")
    if data["schema"] != SCHEMA:
        raise BadRecord(f"schema {data['schema']!r}, this version reads {SCHEMA}; use the version that wrote it")
    record = decode(Record, data)
    _check(record)
    return record


def _check(record: Record) -> None:
    """Refuse what has the right types and makes no sense."""
    op, dims = record.workload.op, record.workload.dims
    if op not in OPS or dim_names(op) != tuple(dims):
        raise BadRecord(f"no op {op!r} with dimensions {', '.join(dims) or 'none'}")
    if record.measurement is None:
        if record.status is Status.MEASURED:
            raise BadRecord("status measured, but no measurement")
        return
    times_s = record.measurement.times_s
    if not times_s or not all(0 < time_s < math.inf for time_s in times_s):
        raise BadRecord("measurement.times_s must be positive numbers, and at least one")


# Written beside the stored fields for readers, never read back.
_DERIVED: Mapping[type, tuple[str, ...]] = types.MappingProxyType(
    {Workload: ("id",), Prediction: ("napkin_s", "serial_s", "bound"), Measurement: ("energy_j",)}
)


def encode(value: Any) -> Any:
    """What `json` can write of a dataclass, and of all that it holds."""
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


# A decoder takes a JSON value and its path (for messages), and returns the typed value. It is built once per type,
# because a results file has many lines and reading type hints is slow.
Decoder = Callable[[Any, str], Any]


def decode(kind: type[T], data: Any) -> T:
    """What `encode` made of a dataclass `kind`; a field that is missing takes its default, if it has one. Raises
    BadRecord naming what is missing, unknown or mistyped."""
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
    """A value that may be absent; or a number, which may be an array in predictions but never in a record."""
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
    needed = {each.name for each in dataclasses.fields(kind) if not _has_default(each)}

    def decode(value: Any, path: str) -> Any:
        data = _expect(dict, value, path)
        prefix = f"{path}." if path else ""
        given = data.keys() - derived
        for name in sorted((given - decoders.keys()) | (needed - given)):
            raise BadRecord(f"{'unknown' if name in given else 'missing'} field {prefix}{name}")
        return kind(**{name: decoders[name](data[name], prefix + name) for name in decoders if name in given})

    return decode


def _has_default(each: dataclasses.Field[Any]) -> bool:
    return each.default is not dataclasses.MISSING or each.default_factory is not dataclasses.MISSING


def _repeating(decode: Decoder) -> Decoder:
    """For what is the same in every line of a run: the same text gives the object made before."""
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
        return value
    raise BadRecord(f"{path} should be {kind.__name__}, not {json.dumps(value)[:40]}")


def _decode_named(find: Callable[[str], Any], value: Any, path: str) -> Any:
    try:
        return find(_expect(str, value, path))
    except (NapkinError, ValueError):
        raise BadRecord(f"{path} has the unknown value {value!r}") from None
