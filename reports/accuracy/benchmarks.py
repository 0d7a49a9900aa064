"""Reads pytest-benchmark's JSON: params or extra_info give op, dimensions, dtype and GPU. Times are in seconds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.record import LARGEST_NUMBER
from predict.errors import BadRecord
from predict.json_file import strict_json
from reports.accuracy.columns import DIMS, DIMS_OF_OP, OPS, TEXTS


def read_benchmarks(path: Path) -> pd.DataFrame:
    """The rows of a pytest-benchmark file; params or extra_info give op, dimensions, dtype and GPU."""
    try:
        data = strict_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadRecord(f"{path}: {error}") from None
    benchmarks = data.get("benchmarks") if isinstance(data, dict) else None
    if not isinstance(benchmarks, list) or not all(isinstance(benchmark, dict) for benchmark in benchmarks):
        raise BadRecord(f"{path}: not a pytest-benchmark file: it has no list 'benchmarks'")
    for benchmark in benchmarks:
        for name in ("params", "extra_info", "stats"):
            if not isinstance(benchmark.get(name) or {}, dict):
                raise BadRecord(
                    f"{path}: not a pytest-benchmark file: {name} of {benchmark.get('name')!r} is no object"
                )
    rows = [_benchmark_row(benchmark) for benchmark in benchmarks]
    return pd.DataFrame(rows, columns=[*TEXTS, *DIMS, "window", "time_s", "reason"])


def _benchmark_row(benchmark: Mapping[str, Any]) -> dict[str, object]:
    """One row of `_read`; pytest-benchmark's times are in seconds."""
    said = {**(benchmark.get("params") or {}), **(benchmark.get("extra_info") or {})}
    op, dtype, device = str(said.get("op")), said.get("dtype"), said.get("gpu") or said.get("device")
    dims = DIMS_OF_OP.get(OPS.get(op, ""), {})
    needed = {"op": said.get("op"), "gpu": device, "dtype": dtype, **{name: said.get(name) for name in dims}}
    missing = [name for name, value in needed.items() if value is None]
    return {
        "op": op,
        "device": str(device),
        "dtype": str(dtype),
        "weight_dtype": str(said.get("weight_dtype") or dtype),
        "kv_dtype": str(said.get("kv_dtype") or dtype) if "kv_heads" in dims or "latent" in dims else None,
        "kernel_source": str(benchmark.get("name")).partition("[")[0],
        **{name: _number(said[name]) if name in dims and name in said else np.nan for name in DIMS},
        "window": _number(said.get("window") or 0),
        "time_s": _number((benchmark.get("stats") or {}).get("median")),
        "reason": f"extra_info lacks {', '.join(missing)}" if missing else "",
    }


def _number(value: object) -> float:
    """A JSON number; NaN for anything else, and for one that is larger than any time or size."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return np.nan
    return float(value) if abs(value) < LARGEST_NUMBER else np.nan
