"""A sweep as a table for the terminal."""

import pandas as pd
from rich.table import Table
from rich.text import Text

from predict.units import duration, in_units


def sweep_table(best: pd.DataFrame, model: str) -> Table:
    """The batch of the highest decode throughput that fits, for every GPU and a handful of contexts."""
    table = Table(
        title=Text(f"{model}: the batch of the highest decode throughput that fits", "bold"), title_justify="left",
        box=None, padding=(0, 2, 0, 0),
    )  # fmt: skip
    for name in (
        "GPU", "context\ntokens", "batch\nthat fits", "best\nbatch", "tokens/s", "tokens/s\nper GPU", "TPOT",
        "TTFT of\nthe batch", "bound", "$ per 1M\ntokens",
    ):  # fmt: skip
        table.add_column(name, justify="left" if name in {"GPU", "bound"} else "right", no_wrap=True)
    for row in best.to_dict(orient="records"):
        head = (str(row["gpu"]), str(row["context"]), str(row["max_batch"]))
        if pd.isna(row["batch"]):
            table.add_row(*head, "none")
            continue
        table.add_row(
            *head,
            str(row["batch"]),
            in_units(row["decode_tokens_per_s"], 1),
            in_units(row["tokens_per_s_per_gpu"], 1),
            duration(row["tpot_s"]),
            duration(row["ttft_s"]),
            str(row["decode_bound"]),
            in_units(row["usd_per_1m_tokens"], 1),
        )
    return table
