"""The records of a run as one tidy frame, a row for each record."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pandas as pd

from bench.record import Environment, Measurement, Record
from bench.stats import Doubt, Summary, doubts, summarize
from predict.peak_memory import Scores, peak_bytes
from predict.resources import Resource
from predict.table import Column, Table
from predict.workloads import OPS, Amounts, complete_dims, dim_names, optional_dims
from reports.run.energy import joules_per_tflop, joules_per_token
from reports.tables import plain_rows

# The dimensions of each op, those that a row may lack among them. The frame has a column for each of `DIMS`, whichever
# ops a run has.
DIMS_OF_OP: Mapping[str, tuple[str, ...]] = MappingProxyType({op: (*dim_names(op), *optional_dims(op)) for op in OPS})
DIMS: tuple[str, ...] = tuple(dict.fromkeys(name for names in DIMS_OF_OP.values() for name in names))

# A record has only the name of its implementation; tests check this table against `Implementation.writes`.
_SCORES: Mapping[str, Scores] = MappingProxyType(
    {
        **dict.fromkeys(("naive", "torch"), Scores.STORED),
        **dict.fromkeys(("sdpa_math", "sdpa_math_mask", "sdpa_math_each"), Scores.WIDE),
    }
)

# Such a time is possible, unlike one below the physical line: the card ran above its printed boost clock, or writes
# stayed in L2.
OVER = 1.005  # what reads as more than 100 % of a roof
OVER_DATASHEET = "over 100 % of the datasheet roof: check the SM clock that was held, and whether the output fits in L2"
OVER_MEASURED = (
    "over 100 % of a measured roof: the probes at the start of the run, which are a few shapes, were slower; other work"
    " may have slowed them, or operands of this row were in a cache"
)


def to_frame(records: Sequence[Record]) -> pd.DataFrame:
    """One row per record, in order; NaN, NA or None where something is absent, never 0.

    Units are seconds, FLOP, bytes, Hz, W and J. Dimensions are Int64; `of_*` are fractions of the roof in the name.
    """
    columns: dict[str, pd.Series] = {}
    for name, values in _identity(records).items():
        columns[name] = pd.Series(values, dtype=object)
    dims = _dims(records)
    for name in DIMS:
        columns[name] = pd.Series([each.get(name) for each in dims], dtype="Int64")
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
        frame[f"of_{roof}"] = frame.pop(f"{roof}_s") / frame["time_s"]
    for roof, why in (("datasheet", OVER_DATASHEET), ("measured", OVER_MEASURED)):
        over = frame[f"of_{roof}"] > OVER
        frame.loc[over, "warnings"] = [
            "; ".join(text for text in (warnings, why) if text) for warnings in frame.loc[over, "warnings"]
        ]
    return frame


def settled(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that a sentence may rest on: stable ones of workloads whose fastest row is stable, since which row is
    the fastest is else not known."""
    timed = rows[rows["time_s"].notna()]
    fastest = timed.loc[timed.groupby("workload", sort=False)["time_s"].idxmin()]
    known = fastest.loc[fastest["unstable"].isna(), "workload"]
    return timed[timed["unstable"].isna() & timed["workload"].isin(known)]


def groups_of(frame: pd.DataFrame, columns: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    """Each combination of values in `columns`, absent ones too, and its rows, sorted by these values."""
    for values, group in frame.groupby(list(columns), sort=True, dropna=False):
        yield (values if isinstance(values, tuple) else (values,)), group


def machine_name(environment: Environment) -> str:
    """The SKU, or for a machine outside the GPU table the name that it reports."""
    return environment.gpu or environment.name


def dims_text(dims: Mapping[str, object]) -> str:
    """Dimensions as text for titles and messages: `heads 32, head_dim 128`."""
    return ", ".join(f"{name} {size}" for name, size in dims.items())


def json_rows(frame: pd.DataFrame) -> str:
    """The frame as a JSON list of objects, one a line; null where something is absent."""
    return "[\n" + ",\n".join(json.dumps(row, allow_nan=False) for row in plain_rows(frame)) + "\n]"


def csv_rows(frame: pd.DataFrame) -> str:
    """The rows of `json_rows` as CSV under the names of the columns; empty where something is absent."""
    return Table(tuple(Column(name, name) for name in map(str, frame.columns)), tuple(plain_rows(frame))).csv()


def _dims(records: Sequence[Record]) -> list[Mapping[str, int]]:
    """The dimensions of each record. Of those that it leaves out it has the ones that another record of its op gives,
    so that the rows of a table can be told apart."""
    given: dict[str, set[str]] = {}
    for record in records:
        given.setdefault(record.workload.op, set()).update(record.workload.dims)
    return [
        {
            name: size
            for name, size in complete_dims(record.workload.op, record.workload.dims).items()
            if name in given[record.workload.op]
        }
        if record.workload.op in OPS
        else {}  # a user's function
        for record in records
    ]


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
    least_s = [record.roof_times_s for record in records]
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
        "refined_s": [
            float(each.refined_s) if each and each.refined_s is not None else math.nan for each in predictions
        ],
        **{
            f"{roof}_s": [times_s.get(roof, math.nan) for times_s in least_s]
            for roof in ("datasheet", "measured", "held_clock")
        },
        "predicted_peak_bytes": [_predicted_peak_bytes(record) for record in records],
    }


def _predicted_peak_bytes(record: Record) -> float:
    return peak_bytes(record.workload, _SCORES.get(record.implementation, Scores.ON_CHIP))


def _measured(records: Sequence[Record], summaries: Sequence[Summary | None]) -> dict[str, list[float]]:
    measurements = [record.measurement for record in records]
    columns = {
        name: [math.nan if summary is None else getattr(summary, name) for summary in summaries]
        for name in Summary.__slots__
    }
    columns["time_s"] = columns.pop("median_s")
    for name in ("sm_hz", "power_w", "peak_bytes", "host_s", "energy_j"):
        columns[name] = [_number(each, name) for each in measurements]
    columns["joules_per_token"] = [joules_per_token(record) for record in records]
    columns["joules_per_tflop"] = [joules_per_tflop(record) for record in records]
    return columns


def _number(measurement: Measurement | None, name: str) -> float:
    value = getattr(measurement, name) if measurement else None
    return math.nan if value is None else float(value)


def _circumstances(records: Sequence[Record], summaries: Sequence[Summary | None]) -> dict[str, list[str | None]]:
    measurements = [record.measurement for record in records]
    doubted = [
        doubts(each.times_s, summary) if each and summary else ()
        for each, summary in zip(measurements, summaries, strict=True)
    ]
    return {
        "method": [each.method if each else None for each in measurements],
        "stop": [each.stop if each else None for each in measurements],
        "throttle": [", ".join(each.throttle) if each and each.throttle is not None else None for each in measurements],
        "warnings": [
            "; ".join((*(f"{doubt.reason}: {doubt.remedy}" for doubt in found), *_timing_warnings(record)))
            if record.measurement
            else None
            for record, found in zip(records, doubted, strict=True)
        ],
        "unstable": [_instability(found) for found in doubted],
    }


def _instability(found: Sequence[Doubt]) -> str | None:
    """Why the median itself is in doubt; None if it is not."""
    return "; ".join(doubt.reason for doubt in found if doubt.unsettles) or None


def _timing_warnings(record: Record) -> tuple[str, ...]:
    """Why these times include the host's, or were taken in another way than those of other rows."""
    warnings = []
    if record.measurement and record.measurement.held is False:
        warnings.append("the host took longer than the stream can be held: the samples include host time")
    if record.measurement and record.measurement.not_captured:
        warnings.append(f"timed one launch at a time: {record.measurement.not_captured}")
    if record.printed:
        warnings.append("it prints while it is called, which takes time: see `printed` of its record")
    return tuple(warnings)


def _unit(amounts: Amounts) -> Resource | None:
    """The unit that does most of the FLOP; None without FLOP."""
    flop_by_unit = {unit: float(flop) for unit, flop in amounts.flop_by_unit.items() if flop}
    return max(flop_by_unit, key=flop_by_unit.__getitem__) if flop_by_unit else None


def _slowest_term(record: Record, *, compute: bool) -> float:
    terms = record.prediction.terms if record.prediction else ()
    return max((float(term.time_s) for term in terms if term.resource.is_compute == compute), default=math.nan)
