"""Reads a run from its folder; refuses broken lines, naming file and line."""

import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from bench import store
from bench.passes import ModelPass, read_passes
from bench.record import Environment, Record, RoofSet
from predict.errors import BadRecord, MissingCeiling
from predict.expected.refined import estimate_all, known_kernels, summary
from predict.expected.time_model import Calibration, Machine
from predict.gpus import NVIDIA_GPUS, NvidiaGpu
from predict.units import DType, Formats
from predict.workloads import FloatArray, dim_names
from reports.calibration.file import CALIBRATION, Fitted, OwnCalibrations, errors_text, read_calibrations
from reports.calibration.refine import Sample
from reports.run.frame import machine_name, to_frame

_Times = tuple[float, float | None]  # expected and refined, in seconds


@dataclass(frozen=True)
class Run:
    """The records of one run."""

    records: tuple[Record, ...]  # at least one; of lines with the same key the last
    broken: tuple[str, ...] = ()  # `file:line: reason` of each broken line that was skipped
    calibrations: Mapping[tuple[str, str], Calibration] = field(default_factory=dict)  # of expected_s, by op and dtype
    bases: Mapping[tuple[str, str], str] = field(default_factory=dict)  # what they rest on, and their measured error
    passes: tuple[ModelPass, ...] = ()  # of a model, that its records make up

    def only(self, keys: Collection[tuple[str, str]]) -> "Run":
        """The run with the records of these keys alone; with all of them if it has none."""
        records = tuple(record for record in self.records if record.key in keys)
        return replace(self, records=records or self.records)

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """The records as `to_frame` returns them; built once, so do not change it."""
        return to_frame(self.records)

    @property
    def environment(self) -> Environment:
        """Machine and software of the latest record."""
        return self.records[-1].environment

    @property
    def environments(self) -> tuple[Environment, ...]:
        """Every distinct environment, apart from the start time; a run resumed elsewhere has several."""
        return tuple({_without_time(record.environment): record.environment for record in self.records}.values())

    @property
    def roofs(self) -> RoofSet:
        """The roofs of the latest record."""
        return self.records[-1].roofs

    @property
    def machine(self) -> str:
        """The machine's name in titles: its SKU, else the name that it reports."""
        return machine_name(self.environment)

    @property
    def harnesses(self) -> frozenset[int]:
        """Versions of the harness that took the times."""
        return frozenset(record.harness for record in self.records)

    @property
    def harnesses_text(self) -> str:
        """The versions of the harness as text: `1 and 2`."""
        return " and ".join(str(version) for version in sorted(self.harnesses))


def load_records(path: Path, *, skip_broken: bool = False) -> Run:
    """Read a run as `read_records` does, and add expected times: from calibration.json beside the records, else from
    the calibration shipped for the GPU, else none. Raises BadRecord for a fault in either file."""
    run = read_records(path, skip_broken=skip_broken)
    file = (path if path.is_dir() else path.parent) / CALIBRATION
    return with_expected_times(run, read_calibrations(file, run.environment) if file.exists() else None)


def read_records(path: Path, *, skip_broken: bool = False) -> Run:
    """Read only records.jsonl; `path` is this file or its folder.

    Raises BadRecord if there is no record, and for the first broken line; with `skip_broken`, `broken` lists broken
    lines instead.
    """
    file = path / store.RECORDS if path.is_dir() else path
    if not file.is_file():
        raise BadRecord(f"{file}: no such file; give the folder of a run that `python -m bench run` wrote")
    stored = store.read(file, skip_broken=skip_broken)
    if not stored.records:
        broken = stored.broken
        what = f"all {len(broken)} lines are broken, the first: {broken[0]}" if broken else "the file is empty"
        raise BadRecord(f"{file}: no record ({what})")
    return Run(stored.records, stored.broken, passes=read_passes(file.parent))


def with_expected_times(run: Run, own: OwnCalibrations | None) -> Run:
    """The run with `expected_s` and `refined_s` in every record whose op and format are calibrated: by the run's own
    calibration, else by what ships."""
    gpu = NVIDIA_GPUS.get(run.environment.gpu or "")
    if gpu is None:
        return run
    groups: dict[tuple[str, DType], list[Record]] = {}
    for record in run.records:
        groups.setdefault((record.workload.op, record.workload.dtype), []).append(record)
    calibrations: dict[tuple[str, str], Calibration] = {}
    bases: dict[tuple[str, str], str] = {}
    times: dict[tuple[str, str], _Times] = {}
    for (op, dtype), records in groups.items():
        fitted = own.find(op, dtype) if own else None
        try:
            found, basis, timed = _own(fitted, records, gpu) if fitted else _shipped(records, gpu)
        except MissingCeiling:
            continue
        calibrations[op, dtype.name], bases[op, dtype.name] = found, basis
        times.update(zip((record.key for record in records), timed, strict=True))
    filled = tuple(_with_times(record, times.get(record.key)) for record in run.records)
    return replace(run, records=filled, calibrations=calibrations, bases=bases)


def _own(fitted: Fitted, records: Sequence[Record], gpu: NvidiaGpu) -> tuple[Calibration, str, Iterator[_Times]]:
    """The run's own calibration, what it rests on, and the times of the records by it."""
    op, dtype = records[0].workload.op, records[0].workload.dtype
    rows = [[record.workload.dims[name] for record in records] for name in dim_names(op)]
    columns = {name: np.array(row, dtype=np.float64) for name, row in zip(dim_names(op), rows, strict=True)}
    columns.setdefault("window", np.zeros(len(records)))
    shapes = Sample(op, columns, np.zeros(len(records)), Machine.of(gpu, dtype), Formats.of(dtype))
    times_s, refined_s = shapes.expected_s(fitted.calibration), None
    if fitted.refined is not None and fitted.refined.is_by(known := known_kernels(records[0].workload, gpu)[0]):
        refined_s = shapes.refined_s(fitted.refined.calibration, known)
    return fitted.calibration, f"measured by this run{errors_text(fitted)}", _paired(times_s, refined_s)


def _shipped(records: Sequence[Record], gpu: NvidiaGpu) -> tuple[Calibration, str, Iterator[_Times]]:
    """The calibration that ships, what it rests on, and the times of the records by it."""
    found = estimate_all([record.workload for record in records], gpu)
    return found.known.calibration, summary(found.known), _paired(found.expected_s, found.refined_s)


def _paired(expected_s: FloatArray, refined_s: FloatArray | None) -> Iterator[_Times]:
    refined = [None] * len(expected_s) if refined_s is None else refined_s.tolist()
    return zip(expected_s.tolist(), refined, strict=True)


def _with_times(record: Record, times: _Times | None) -> Record:
    if times is None or record.prediction is None:
        return record
    return replace(record, prediction=replace(record.prediction, expected_s=times[0], refined_s=times[1]))


def _without_time(environment: Environment) -> tuple[object, ...]:
    values = (getattr(environment, name) for name in Environment.__slots__ if name != "utc")
    return tuple(tuple(sorted(value.items())) if isinstance(value, Mapping) else value for value in values)
