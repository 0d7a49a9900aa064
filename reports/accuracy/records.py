"""Reads the records of our own runs as measured rows."""

from pathlib import Path

import numpy as np
import pandas as pd

from bench.record import Status
from predict.errors import BadRecord
from reports.accuracy.columns import DIMS, numbers
from reports.run.load import load_records


def read_records(path: Path, *, skip_broken: bool) -> pd.DataFrame:
    """The rows of our own records; raises BadRecord for a run on a CPU."""
    run = load_records(path, skip_broken=skip_broken)
    for environment in run.environments:
        if environment.device == "cpu":
            raise BadRecord(f"{path}: measured on a CPU ({environment.name}); only GPUs of the GPU table are read")
    frame = run.frame
    is_attention = frame["op"].isin(["attention_prefill", "attention_decode", "attention_mla"])
    columns: dict[str, object] = {
        "op": frame["op"],
        "device": frame["machine"],
        "dtype": frame["dtype"],
        "weight_dtype": frame["dtype"],
        "kv_dtype": frame["dtype"].where(is_attention),
        "kernel_source": frame["implementation"],
        **{name: numbers(frame[name]) if name in frame else np.nan for name in DIMS},
        "window": 0.0,
        "time_s": frame["time_s"],
        "reason": ("status " + frame["status"]).where(frame["status"] != Status.MEASURED, ""),
    }
    rows = pd.DataFrame(columns).reindex(range(len(frame) + len(run.broken)))
    rows["reason"] = rows["reason"].fillna("a broken line")
    return rows
