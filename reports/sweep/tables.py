"""A sweep as a table."""

import pandas as pd

from predict.units import duration, in_units
from reports.tables import TextTable

TITLES = (
    *("GPU", "context\ntokens", "batch\nthat fits", "best\nbatch", "tokens/s", "tokens/s\nper GPU", "TPOT"),
    *("TTFT of\nthe batch", "bound", "$ per 1M\ntokens"),
)


def sweep_table(best: pd.DataFrame, model: str) -> TextTable:
    """One line for each row of `best_rows`."""
    rows = []
    for row in best.to_dict(orient="records"):
        head = (str(row["gpu"]), str(row["context"]), str(row["max_batch"]))
        if pd.isna(row["batch"]):
            rows.append((*head, "none", *[""] * 6))
            continue
        rates = (in_units(row[name], 1) for name in ("decode_tokens_per_s", "tokens_per_s_per_gpu"))
        times = (duration(row[name]) for name in ("tpot_s", "ttft_s"))
        price = in_units(row["usd_per_1m_tokens"], 1)
        rows.append((*head, str(row["batch"]), *rates, *times, str(row["decode_bound"]), price))
    return TextTable(f"{model}: the fitting batch with the highest decode throughput", TITLES, tuple(rows))
