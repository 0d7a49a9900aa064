"""Records from a run's folder, and the same as one tidy frame. Broken lines are refused by file and line."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from bench import store
from bench.record import Environment, Measurement, Record, RoofSet
from bench.stats import Summary, stability_warnings, summarize
from predict.errors import BadRecord, MissingCeiling
from predict.expected.calibrations import find_calibration
from predict.expected.kernel import expect
from predict.expected.time_model import Calibration, Machine
from predict.gpus import GPUS, held_clock_roofs
from predict.peak_memory import Scores, peak_bytes
from predict.resources import Resource, Roofs, find_ceiling
from predict.roofline import predict
from predict.units import DType, Formats
from predict.workloads import OPS, Amounts, dim_names
from reports.calibration.file import CALIBRATION, OwnCalibrations, read_calibrations
from reports.run.energy import joules_per_tflop, joules_per_token

# Dimensions of each op, and each once: the frame has a column for every one, whichever ops a run holds.
DIMS_OF_OP: Mapping[str, tuple[str, ...]] = MappingProxyType({op: dim_names(op) for op in OPS})
DIMS: tuple[str, ...] = tuple(dict.fromkeys(name for names in DIMS_OF_OP.values() for name in names))

# A record knows its implementation by name alone; tests hold this against `Implementation.writes`.
_SCORES: Mapping[str, Scores] = MappingProxyType(
    {
        **dict.fromkeys(("naive", "torch"), Scores.STORED),
        **dict.fromkeys(("sdpa_math", "sdpa_math_mask", "sdpa_math_each"), Scores.WIDE),
    }
)

# Possible, unlike what is over the physical line: the card clocked above its printed boost, or writes stayed in L2.
OVER_DATASHEET = "over 100 % of the datasheet roof: see the SM clock that was held, and whether the output fits in L2"


@dataclass(frozen=True, slots=True)
class Loaded:
    """The records of one run (at least one; a later line of the same key has replaced the earlier), and what was not
    understood: one `file:line: reason` for each broken line that was skipped."""

    records: tuple[Record, ...]
    broken: tuple[str, ...] = ()
    calibrations: Mapping[tuple[str, str], Calibration] = field(default_factory=dict)  # behind expected_s: op, dtype

    @property
    def environment(self) -> Environment:
        """Machine and software of the latest record."""
        return self.records[-1].environment

    @property
    def environments(self) -> tuple[Environment, ...]:
        """Every distinct environment, but for the time at which it was started: more than one where a run resumed."""
        return tuple({_without_time(record.environment): record.environment for record in self.records}.values())

    @property
    def roofs(self) -> RoofSet:
        """The roofs of the latest record."""
        return self.records[-1].roofs

    @property
    def machine(self) -> str:
        """How this machine is called in titles: its SKU, or the name that it reports."""
        return machine_name(self.environment)

    @property
    def harnesses(self) -> frozenset[int]:
        """Versions of the harness that took the times."""
        return frozenset(record.harness for record in self.records)

    @property
    def harnesses_text(self) -> str:
        """These versions, in words: `1 and 2`."""
        return " and ".join(str(version) for version in sorted(self.harnesses))


def load_records(path: Path, *, skip_broken: bool = False) -> Loaded:
    """Read a run as `read_records` does, and give its records their expected times: by calibration.json beside them,
    else by the calibration that ships for the GPU; none where there is neither. Raises BadRecord for either file."""
    loaded = read_records(path, skip_broken=skip_broken)
    file = (path if path.is_dir() else path.parent) / CALIBRATION
    return with_expected_times(loaded, read_calibrations(file, loaded.environment) if file.exists() else None)


def read_records(path: Path, *, skip_broken: bool = False) -> Loaded:
    """Read DIR/records.jsonl (`path` is the folder or the file), and nothing else.

    Raises BadRecord where there is no record, and for the first line that is truncated or foreign; with `skip_broken`
    such lines are listed in `broken` instead.
    """
    file = path / store.RECORDS if path.is_dir() else path
    if not file.is_file():
        raise BadRecord(f"{file}: no such file; give the folder of a run, as `python -m bench run` writes it")
    stored = store.read(file, skip_broken=skip_broken)
    if not stored.records:
        broken = stored.broken
        what = f"all {len(broken)} lines are broken, the first: {broken[0]}" if broken else "the file is empty"
        raise BadRecord(f"{file}: no record ({what})")
    return Loaded(stored.records, stored.broken)


def with_expected_times(loaded: Loaded, own: OwnCalibrations | None) -> Loaded:
    """The same run with `expected_s` wherever a calibration is known: the run's own, else the one that ships."""
    gpu = GPUS.get(loaded.environment.gpu or "")
    if gpu is None:
        return loaded
    groups: dict[tuple[str, DType], list[Record]] = {}
    for record in loaded.records:
        groups.setdefault((record.workload.op, record.workload.dtype), []).append(record)
    calibrations: dict[tuple[str, str], Calibration] = {}
    expected_s: dict[tuple[str, str], float] = {}
    for (op, dtype), records in groups.items():
        calibration = (own.find(op, dtype) if own else None) or find_calibration(gpu.name, op, dtype)
        if calibration is None:
            continue
        calibrations[op, dtype.name] = calibration
        dims = {name: [record.workload.dims[name] for record in records] for name in DIMS_OF_OP[op]}
        times_s = expect(dims, Machine.of(gpu, dtype), Formats.of(dtype), calibration).time_s
        expected_s.update(zip((record.key for record in records), times_s.tolist(), strict=True))
    filled = tuple(_with_expected(record, expected_s.get(record.key)) for record in loaded.records)
    return replace(loaded, records=filled, calibrations=calibrations)


def _with_expected(record: Record, expected_s: float | None) -> Record:
    if expected_s is None or record.prediction is None:
        return record
    return replace(record, prediction=replace(record.prediction, expected_s=expected_s))


def to_frame(records: Sequence[Record]) -> pd.DataFrame:
    """One row per record, in order; NaN, NA or None where something is absent, never 0.

    Seconds, FLOP, bytes, Hz, W and J; dimensions are Int64, `of_*` are fractions of the roof that the name says.
    """
    columns: dict[str, pd.Series] = {}
    for name, values in _identity(records).items():
        columns[name] = pd.Series(values, dtype=object)
    for name in DIMS:
        columns[name] = pd.Series([record.workload.dims.get(name) for record in records], dtype="Int64")
    summaries = [summarize(record.measurement.times_s) if record.measurement else None for record in records]
    for name, numbers in (_predicted(records) | _measured(records, summaries)).items():
        columns[name] = pd.Series(numbers, dtype="float64")
    for name, values in _circumstances(records, summaries).items():
        columns[name] = pd.Series(values, dtype=object)
    columns["cold_l2"] = pd.Series(
        [record.measurement.cold_l2 if record.measurement else None for record in records], dtype="boolean"
    )
    columns["samples"] = columns["samples"].astype("Int64")
    frame = pd.DataFrame(columns)
    frame["ratio"] = frame["time_s"] / frame["napkin_s"].where(frame["napkin_s"] > 0)
    for roof in ("datasheet", "measured", "held_clock"):
        napkin_s = frame.pop(f"{roof}_s")
        frame[f"of_{roof}"] = napkin_s.where(napkin_s > 0) / frame["time_s"]
    over = frame["of_datasheet"] > 1
    frame.loc[over, "warnings"] = [
        "; ".join(text for text in (warnings, OVER_DATASHEET) if text) for warnings in frame.loc[over, "warnings"]
    ]
    return frame


def groups_of(frame: pd.DataFrame, columns: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    """The values of `columns` and the rows that share them, sorted by those values."""
    for values, group in frame.groupby(list(columns), sort=True):
        yield (values if isinstance(values, tuple) else (values,)), group


def machine_name(environment: Environment) -> str:
    """The SKU, or where the table has none the name that the machine reports."""
    return environment.gpu or environment.name


def dims_text(dims: Mapping[str, object]) -> str:
    """`heads 32, head_dim 128`: how dimensions are written in titles and messages."""
    return ", ".join(f"{name} {size}" for name, size in dims.items())


def json_rows(frame: pd.DataFrame) -> str:
    """The frame as a JSON list of objects, one a line; null where something is absent."""
    rows = [
        {name: None if pd.isna(value) else value for name, value in row.items()}
        for row in frame.astype(object).to_dict(orient="records")
    ]
    return "[\n" + ",\n".join(json.dumps(row, allow_nan=False) for row in rows) + "\n]"


def _without_time(environment: Environment) -> tuple[object, ...]:
    values = (getattr(environment, name) for name in Environment.__slots__ if name != "utc")
    return tuple(tuple(sorted(value.items())) if isinstance(value, Mapping) else value for value in values)


def _identity(records: Sequence[Record]) -> dict[str, list[str | None]]:
    return {
        "machine": [machine_name(record.environment) for record in records],
        "op": [record.workload.op for record in records],
        "workload": [record.workload.id for record in records],
        "implementation": [record.implementation for record in records],
        "dtype": [record.workload.dtype.name for record in records],
        "status": [record.status.value for record in records],
        "reason": [record.reason for record in records],
        "unit": [_unit(record.workload.amounts) for record in records],
        "bound": [record.prediction.bound if record.prediction else None for record in records],
    }


def _predicted(records: Sequence[Record]) -> dict[str, list[float]]:
    """Amounts and times under each roof; `compute_s` and `memory_s` are the two sides of the napkin."""
    amounts = [record.workload.amounts for record in records]
    predictions = [record.prediction for record in records]
    return {
        "flop": [float(each.flop) for each in amounts],
        "bytes": [float(each.bytes) for each in amounts],
        "arithmetic_intensity": [float(each.flop) / float(each.bytes) if each.bytes else math.nan for each in amounts],
        "napkin_s": [float(each.napkin_s) if each else math.nan for each in predictions],
        "compute_s": [_slowest_term(record, compute=True) for record in records],
        "memory_s": [_slowest_term(record, compute=False) for record in records],
        "expected_s": [
            float(each.expected_s) if each and each.expected_s is not None else math.nan for each in predictions
        ],
        "datasheet_s": [_napkin_s(record.workload.amounts, record.roofs.datasheet) for record in records],
        "measured_s": [_napkin_s(record.workload.amounts, record.roofs.measured) for record in records],
        "held_clock_s": [_held_clock_s(record) for record in records],
        "predicted_peak_bytes": [_predicted_peak_bytes(record) for record in records],
    }


def _predicted_peak_bytes(record: Record) -> float:
    return peak_bytes(record.workload, _SCORES.get(record.implementation, Scores.ON_CHIP))


def _measured(records: Sequence[Record], summaries: Sequence[Summary | None]) -> dict[str, list[float]]:
    measurements = [record.measurement for record in records]

    def each(name: str) -> list[float]:
        return [math.nan if summary is None else getattr(summary, name) for summary in summaries]

    columns = {name: each(name) for name in Summary.__slots__}
    columns["time_s"] = columns.pop("median_s")
    columns["sm_hz"] = [each.sm_hz if each and each.sm_hz else math.nan for each in measurements]
    columns["power_w"] = [each.power_w if each and each.power_w else math.nan for each in measurements]
    columns["peak_bytes"] = [
        float(each.peak_bytes) if each and each.peak_bytes is not None else math.nan for each in measurements
    ]
    columns["host_s"] = [each.host_s if each and each.host_s else math.nan for each in measurements]
    columns["energy_j"] = [each.energy_j if each and each.energy_j else math.nan for each in measurements]
    columns["joules_per_token"] = [joules_per_token(record) for record in records]
    columns["joules_per_tflop"] = [joules_per_tflop(record) for record in records]
    return columns


def _circumstances(records: Sequence[Record], summaries: Sequence[Summary | None]) -> dict[str, list[str | None]]:
    measurements = [record.measurement for record in records]
    return {
        "method": [each.method if each else None for each in measurements],
        "stop": [each.stop if each else None for each in measurements],
        "throttle": [", ".join(each.throttle) if each and each.throttle is not None else None for each in measurements],
        "warnings": [
            "; ".join((*stability_warnings(each.times_s, summary), *_timing_warnings(each)))
            if each and summary
            else None
            for each, summary in zip(measurements, summaries, strict=True)
        ],
    }


def _timing_warnings(measurement: Measurement) -> tuple[str, ...]:
    """What keeps these times from being the device's alone, or from having been taken as other rows' were."""
    warnings = []
    if measurement.held is False:
        warnings.append("the host needed longer than the stream can be held: its time is in the samples")
    if measurement.not_captured:
        warnings.append(f"timed one launch at a time: {measurement.not_captured}")
    return tuple(warnings)


def _unit(amounts: Amounts) -> Resource | None:
    """The unit that does most of the FLOP; None where there is none."""
    flop_by_unit = {unit: float(flop) for unit, flop in amounts.flop_by_unit.items() if flop}
    return max(flop_by_unit, key=flop_by_unit.__getitem__) if flop_by_unit else None


def _slowest_term(record: Record, *, compute: bool) -> float:
    terms = record.prediction.terms if record.prediction else ()
    return max((float(term.time_s) for term in terms if term.resource.is_compute == compute), default=math.nan)


def _napkin_s(amounts: Amounts, roofs: Roofs) -> float:
    try:
        return float(predict(amounts, roofs).napkin_s)
    except MissingCeiling:
        return math.nan


def _held_clock_s(record: Record) -> float:
    """Least time of the FLOP at the clock that the card held; NaN unless compute-bound on a known GPU and clock."""
    gpu = GPUS.get(record.environment.gpu or "")
    sm_hz = record.measurement.sm_hz if record.measurement else None
    bound = record.prediction.bound if record.prediction else None
    if gpu is None or not sm_hz or bound is None or not bound.is_compute:
        return math.nan
    roofs = held_clock_roofs(gpu, sm_hz)
    try:
        return max(
            float(flop) / find_ceiling(unit, roofs).per_s
            for unit, flop in record.workload.amounts.flop_by_unit.items()
            if flop
        )
    except MissingCeiling:
        return math.nan
