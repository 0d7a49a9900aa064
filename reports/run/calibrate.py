"""Calibrates expected time from a run's own probes, for each op and format with a complete set.

    python -m reports calibrate runs/h100

prints constants and errors, and writes runs/h100/calibration.json.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bench.record import HARNESS, Record, Status
from bench.stats import summarize
from predict.errors import MissingCeiling
from predict.expected.calibrations import Known
from predict.expected.kernel import CONSTANT_COLUMNS, TIME_MODELS, calibration_table, expect, explain_calibration
from predict.expected.probes import PROBES, probe_workloads
from predict.expected.refined import known_kernels
from predict.expected.time_model import Calibration, Machine
from predict.gpus import NVIDIA_GPUS, NvidiaGpu
from predict.table import Column, Table
from predict.terminal import PLAIN_WIDTH, wrapped
from predict.units import DType, Formats, percent
from predict.workloads import FloatArray, dim_names
from reports.calibration.errors import Errors, errors, mean_error
from reports.calibration.file import CALIBRATION, SCHEMA, Fitted, OwnCalibrations, Refined, to_text
from reports.calibration.fit import calibrate
from reports.calibration.refine import Sample, refined_calibration
from reports.files import write_file
from reports.run.load import Run

MEASURE_THEM = "measure them with `python -m bench run --suite calibration`"

Group = tuple[str, DType]  # op, and the format that it multiplies in
Shapes = dict[str, Record]  # the fastest record of each workload


@dataclass(frozen=True, slots=True)
class RunFit:
    """A calibration fitted to a run."""

    dtype: DType
    calibration: Calibration
    errors: Errors | None  # on the run's other shapes; None where there are none
    refined: Refined | None = None  # with the residual of kernels that ship, if the probes confirm it


def fit_run(run: Run, *, implementation: str | None = None) -> tuple[RunFit, ...]:
    """Calibrate every op and format with a complete set of measured probes; `why_none` explains an empty result.

    A shape's time is its fastest implementation's, or the named implementation's.
    """
    gpu = NVIDIA_GPUS.get(run.environment.gpu or "")
    if gpu is None:
        return ()
    source = f"{gpu.name} on {run.environment.utc[:10]}, {implementation or 'the fastest implementation of each'}"
    return tuple(
        _fit(group, shapes, gpu, source)
        for group, shapes in _groups(run.records, implementation).items()
        if not _missing(group, shapes) and _unknown_fact(gpu, group) is None
    )


def why_none(run: Run, *, implementation: str | None = None) -> str:
    """Why `fit_run` has nothing to calibrate, and what to do about it."""
    gpu = NVIDIA_GPUS.get(run.environment.gpu or "")
    if gpu is None:
        return f"expected times need a GPU of the GPU table; this run is of {run.environment.name}"
    by = f" by {implementation}" if implementation else ""
    groups = _groups(run.records, implementation)
    complete = [group for group, shapes in groups.items() if not _missing(group, shapes)]
    if reasons := [why for group in complete if (why := _unknown_fact(gpu, group))]:
        return "; ".join(dict.fromkeys(reasons))
    lacking = [
        f"{op} in {dtype.name} lacks {len(missing)} of {len(PROBES[op])} probes{by}, such as {missing[0]}"
        for (op, dtype), shapes in groups.items()
        if len(missing := _missing((op, dtype), shapes)) < len(PROBES[op])
    ]
    return f"{'; '.join(lacking) or f'this run measured no probes{by}'}; {MEASURE_THEM}"


def write_calibration(run: Run, folder: Path, fits: tuple[RunFit, ...]) -> Path:
    """Write folder/calibration.json in one step; return its path."""
    fitted = tuple(
        Fitted(fit.dtype, fit.calibration, fit.errors.mape_expected if fit.errors else None, fit.refined)
        for fit in fits
    )
    own = OwnCalibrations(SCHEMA, HARNESS, str(run.environment.gpu), fitted)
    write_file(folder / CALIBRATION, to_text(own).encode())
    return folder / CALIBRATION


def fit_headline(fit: RunFit) -> str:
    """What was calibrated, and the errors of the napkin and of expected time on the run's other shapes."""
    named = f"{fit.calibration.op} in {fit.dtype.name}: calibrated from {fit.calibration.probes} probes"
    if fit.errors is None:
        return f"{named}; this run has no other shapes to judge it by"
    shares = f"napkin {percent(fit.errors.mape_napkin)}, expected {percent(fit.errors.mape_expected)}"
    if fit.refined is not None and fit.refined.error is not None:
        shares += f", refined {percent(fit.refined.error)}"
    return f"{named}; mean error on {fit.errors.rows} other shapes: {shares}"


def explain_fit(fit: RunFit, width: int = PLAIN_WIDTH) -> str:
    """The headline, and the constants with their units and meanings, at most `width` columns wide."""
    explained = explain_calibration(fit.calibration, Formats.of(fit.dtype), width)
    return "\n".join([*wrapped(fit_headline(fit), width), explained])


def fits_table(fits: Iterable[RunFit]) -> Table:
    """A row for each constant of each fit."""
    rows = (
        {"op": fit.calibration.op, "dtype": fit.dtype.name, **row}
        for fit in fits
        for row in calibration_table(fit.calibration, Formats.of(fit.dtype)).rows
    )
    names = (Column("op", "op", is_key=True), Column("dtype", "dtype", is_key=True))
    return Table((*names, *CONSTANT_COLUMNS), tuple(rows))


def fit_json(fit: RunFit) -> dict[str, object]:
    """The fit as JSON; `errors` is null where the run has no other shapes."""
    judged = None if fit.errors is None else dataclasses.asdict(fit.errors)
    return {"dtype": fit.dtype.name, **dataclasses.asdict(fit.calibration), "errors": judged}


def _groups(records: Iterable[Record], implementation: str | None) -> dict[Group, Shapes]:
    """The fastest measured record of each workload, by op and format; ops without probes are left out."""
    groups: dict[Group, Shapes] = {}
    for record in records:
        workload = record.workload
        named = implementation in (None, record.implementation)
        if record.status is not Status.MEASURED or workload.op not in PROBES or not named:
            continue
        shapes = groups.setdefault((workload.op, workload.dtype), {})
        known = shapes.get(workload.id)
        if known is None or _time_s(record) < _time_s(known):
            shapes[workload.id] = record
    return groups


def _missing(group: Group, shapes: Shapes) -> list[str]:
    return [workload.id for workload in probe_workloads(*group) if workload.id not in shapes]


def _unknown_fact(gpu: NvidiaGpu, group: Group) -> str | None:
    """One line on a fact that a calibration needs and the GPU table lacks; None if the table has all of them."""
    try:
        Machine.of(gpu, group[1])
    except MissingCeiling as error:
        return str(error)
    return None


def _fit(group: Group, shapes: Shapes, gpu: NvidiaGpu, source: str) -> RunFit:
    op, dtype = group
    machine, formats = Machine.of(gpu, dtype), Formats.of(dtype)
    names = [workload.id for workload in probe_workloads(op, dtype)]
    probes = [shapes[name] for name in names]
    times_s = np.array([_time_s(record) for record in probes])
    found = calibrate(op, _columns(probes), times_s, machine, formats, source)
    calibration = dataclasses.replace(
        found, constants={name: found.constants[name] for name in TIME_MODELS[op].fitted(formats)}
    )
    others = [record for name, record in shapes.items() if name not in set(names) and record.prediction is not None]
    told = Sample(op, _columns(probes), times_s, machine, formats)
    refined = _refined(told, calibration, others, _known(probes[0], gpu))
    if not others:
        return RunFit(dtype, calibration, None, refined)
    rows = pd.DataFrame(
        {
            "time_s": [_time_s(record) for record in others],
            "napkin_s": [float(record.prediction.napkin_s) for record in others if record.prediction],
            "expected_s": expect(_columns(others), machine, formats, calibration).time_s,
        }
    )
    return RunFit(dtype, calibration, errors(rows), refined)


def _refined(probes: Sample, plain: Calibration, others: list[Record], known: Known | None) -> Refined | None:
    """Constants that go with the residual of `known`, if the probes confirm it."""
    joined = refined_calibration(probes, plain, known) if known else None
    if joined is None or known is None:
        return None
    error = None
    if others:
        times_s = np.array([_time_s(record) for record in others])
        asked = dataclasses.replace(probes, columns=_columns(others), time_s=times_s)
        error = mean_error(asked.refined_s(joined, known), times_s)
    return Refined(joined, known.shipped.gpu, known.shipped.kernel, error)


def _known(record: Record, gpu: NvidiaGpu) -> Known | None:
    """What ships of kernels like the record's; None if nothing like them was measured anywhere."""
    try:
        return known_kernels(record.workload, gpu)[0]
    except MissingCeiling:
        return None


def _columns(records: list[Record]) -> dict[str, FloatArray]:
    """The dimensions of records of one op; `window` is 0, since no calibrated op of ours has a window."""
    names = dim_names(records[0].workload.op)
    columns = {name: np.array([record.workload.dims[name] for record in records], dtype=np.float64) for name in names}
    return {**columns, "window": np.zeros(len(records))}


def _time_s(record: Record) -> float:
    assert record.measurement is not None
    return summarize(record.measurement.times_s).median_s
