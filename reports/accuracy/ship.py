"""Writes predict/expected/calibrations.json, the calibrations that ship, from validated tables.

    python -m reports ship tables/*.parquet

Every kernel family whose rows judge it has an entry. A collective's times do not depend on what its bytes mean, so that
of fp16 stands for all formats.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from predict.expected.calibrations import FILE, same_rates
from predict.expected.collective import COLLECTIVES
from predict.expected.kernel import TIME_MODELS
from reports.accuracy.validate import Group
from reports.calibration.errors import errors
from reports.files import write_file

DIGITS = 4  # significant figures of a constant


def write_calibrations(groups: Iterable[Group], file: Path = FILE) -> Path:
    """Write the calibrations of the groups to `file` in one step; the same groups give the same bytes."""
    entries = [_entry(group) for group in groups if not (group.op in COLLECTIVES and group.dtype == "int8")]
    lines = ",\n".join(f"  {json.dumps(entry, allow_nan=False)}" for entry in entries)
    write_file(file, f'{{"calibrations": [\n{lines}\n]}}\n'.encode())
    return file


def _entry(group: Group) -> dict[str, object]:
    """A calibration as `predict.expected.calibrations.shipped` reads it."""
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


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
