"""Writes what ships of expected time, from validated tables: predict/expected/calibrations.json and residuals.npy.

    python -m reports ship tables/*.parquet

Every kernel family whose rows judge it has an entry. A collective's times do not depend on what its bytes mean, so that
of fp16 stands for all formats.
"""

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from predict.expected.calibrations import FILE, RESIDUALS, Carried, read_library, same_rates, shipped
from predict.expected.collective import COLLECTIVES
from predict.expected.kernel import TIME_MODELS
from predict.expected.residual import lattices, log_factor
from reports.accuracy.relatives import carried_errors
from reports.accuracy.validate import Group
from reports.calibration.errors import errors, mean_error
from reports.calibration.refine import Sample
from reports.calibration.residual import fit_residual
from reports.files import write_file

DIGITS = 4  # significant figures of a constant
KEPT_BACK = 0.5  # share of the shapes, at random, that judges a residual of the others
ENOUGH = 2000  # shapes of a group tell how far off it is


def write_calibrations(groups: Iterable[Group], file: Path = FILE, residuals: Path = RESIDUALS) -> tuple[Path, Path]:
    """Write the calibrations of the groups to `file` and their residuals to `residuals`, each in one step; the same
    groups give the same bytes."""
    kept = [group for group in groups if not (group.op in COLLECTIVES and group.dtype == "int8")]
    entries, values = _entries(kept)
    fitted = read_library({"calibrations": entries, "carried": []}, values)
    told = ((each.identity, _thinned(each), len(each.rows)) for each in kept)
    carried = [_carried(each) for each in carried_errors(told, fitted)]
    content = io.BytesIO()
    np.save(content, values)
    write_file(residuals, content.getvalue())
    parts = (f'"{name}": [\n{_lines(each)}\n]' for name, each in (("calibrations", entries), ("carried", carried)))
    write_file(file, f"{{{', '.join(parts)}}}\n".encode())
    return file, residuals


def lost_tables(groups: Iterable[Group]) -> list[str]:
    """Tables whose calibrations ship and would not any more, because no group is of them."""
    given = {group.table for group in groups}
    shipping = dict.fromkeys(each.calibration.source.partition(",")[0] for each in shipped())
    return [table for table in shipping if table not in given]


def _entries(groups: Sequence[Group]) -> tuple[list[dict[str, object]], NDArray[np.int8]]:
    """The calibrations, and the residuals of all of them, one after the other."""
    entries: list[dict[str, object]] = []
    values: list[NDArray[np.int8]] = []
    for group in groups:
        found = _residual(group)
        entry: dict[str, object] = {"residual": None, "refined_error": None}
        if found is not None:
            entry = {"residual": sum(map(len, values)), "refined_error": _rounded(found[1])}
            values.append(found[0])
        entries.append(_entry(group) | entry)
    return entries, np.concatenate(values) if values else np.zeros(0, dtype=np.int8)


def _entry(group: Group) -> dict[str, object]:
    """A calibration as `predict.expected.calibrations` reads it."""
    found, calibration = errors(group.judged), group.calibration
    return {
        "gpu": group.gpu,
        "op": group.op,
        "format": same_rates(group.dtype),
        "cache": group.kv_dtype,
        "window": group.window,
        "kernel": group.kernel_source,
        "table": group.table,
        "probes": calibration.probes,
        "rows": found.rows,
        "error": _rounded(found.mape_expected),
        "ranges": {
            name: [float(group.rows[name].min()), float(group.rows[name].max())] for name in TIME_MODELS[group.op].dims
        },
        "constants": {name: _rounded(value) for name, value in calibration.constants.items()},
        "switches": dict(calibration.switches),
    }


def _residual(group: Group) -> tuple[NDArray[np.int8], float] | None:
    """The values of the group's residual, and the mean error of refined times on shapes kept back from a second fit;
    None if the op has no lattice."""
    if not lattices(group.op, window=group.window):
        return None
    time_s, expected_s = (group.rows[name].to_numpy() for name in ("time_s", "expected_s"))
    columns = {name: group.rows[name].to_numpy(dtype=np.float64) for name in TIME_MODELS[group.op].dims}
    log_ratio = np.log(time_s / expected_s)
    back = np.random.default_rng(0).random(len(time_s)) < KEPT_BACK
    told = {name: column[~back] for name, column in columns.items()}
    asked = {name: column[back] for name, column in columns.items()}
    half = fit_residual(group.op, told, log_ratio[~back], window=group.window)
    refined_s = expected_s[back] * np.exp(log_factor(group.op, asked, half, window=group.window))
    whole = fit_residual(group.op, columns, log_ratio, window=group.window)
    return whole, mean_error(refined_s, time_s[back])


def _thinned(group: Group) -> Sample:
    """At most `ENOUGH` of the group's shapes."""
    count = len(group.shapes.time_s)
    return group.shapes.at(np.random.default_rng(0).permutation(count)[:ENOUGH])


def _carried(found: Carried) -> dict[str, object]:
    refined = None if found.refined_error is None else _rounded(found.refined_error)
    return {
        "op": found.op,
        "format": found.format,
        "cache": found.cache,
        "window": found.window,
        "basis": found.basis.name,
        "groups": found.groups,
        "expected_error": _rounded(found.expected_error),
        "refined_error": refined,
    }


def _lines(entries: Iterable[object]) -> str:
    return ",\n".join(f"  {json.dumps(entry, allow_nan=False)}" for entry in entries)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
