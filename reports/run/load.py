"""Reads a run from its folder; refuses broken lines, naming file and line."""

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from bench import store
from bench.passes import ModelPass, read_passes
from bench.record import Environment, Record, RoofSet
from predict.errors import BadRecord
from predict.expected.calibrations import find_calibration
from predict.expected.kernel import expect
from predict.expected.time_model import Calibration, Machine
from predict.gpus import NVIDIA_GPUS
from predict.units import DType, Formats
from predict.workloads import dim_names
from reports.calibration.file import CALIBRATION, OwnCalibrations, read_calibrations
from reports.run.frame import machine_name, to_frame


@dataclass(frozen=True)
class Run:
    """The records of one run."""

    records: tuple[Record, ...]  # at least one; of lines with the same key the last
    broken: tuple[str, ...] = ()  # `file:line: reason` of each broken line that was skipped
    calibrations: Mapping[tuple[str, str], Calibration] = field(default_factory=dict)  # of expected_s, by op and dtype
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
    """The run with `expected_s` in every record that has a calibration: the run's own, else the shipped one."""
    gpu = NVIDIA_GPUS.get(run.environment.gpu or "")
    if gpu is None:
        return run
    groups: dict[tuple[str, DType], list[Record]] = {}
    for record in run.records:
        groups.setdefault((record.workload.op, record.workload.dtype), []).append(record)
    calibrations: dict[tuple[str, str], Calibration] = {}
    expected_s: dict[tuple[str, str], float] = {}
    for (op, dtype), records in groups.items():
        calibration = (own.find(op, dtype) if own else None) or find_calibration(gpu.name, op, dtype)
        if calibration is None:
            continue
        calibrations[op, dtype.name] = calibration
        dims = {name: [record.workload.dims[name] for record in records] for name in dim_names(op)}
        times_s = expect(dims, Machine.of(gpu, dtype), Formats.of(dtype), calibration).time_s
        expected_s.update(zip((record.key for record in records), times_s.tolist(), strict=True))
    filled = tuple(_with_expected(record, expected_s.get(record.key)) for record in run.records)
    return replace(run, records=filled, calibrations=calibrations)


def _with_expected(record: Record, expected_s: float | None) -> Record:
    if expected_s is None or record.prediction is None:
        return record
    return replace(record, prediction=replace(record.prediction, expected_s=expected_s))


def _without_time(environment: Environment) -> tuple[object, ...]:
    values = (getattr(environment, name) for name in Environment.__slots__ if name != "utc")
    return tuple(tuple(sorted(value.items())) if isinstance(value, Mapping) else value for value in values)
