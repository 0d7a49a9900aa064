"""A sweep as a table."""

import pandas as pd

from predict.table import Column, Table
from predict.units import Unit
from reports.tables import plain_rows

COLUMNS = (
    Column("gpu", "GPU", is_key=True),
    Column("context", "context tokens", Unit.COUNT, is_key=True),
    Column("max_batch", "batch that fits", Unit.COUNT),
    Column("batch", "best batch", Unit.COUNT),
    Column("decode_tokens_per_s", "tokens/s", Unit.TOKENS_PER_S),
    Column("tokens_per_s_per_gpu", "tokens/s per GPU", Unit.TOKENS_PER_S),
    Column("tpot_s", "TPOT", Unit.SECONDS),
    Column("ttft_s", "TTFT of the batch", Unit.SECONDS),
    Column("decode_bound", "bound"),
    Column("usd_per_1m_tokens", "$ per 1M tokens", Unit.USD),
)


def sweep_title(model: str) -> str:
    """The title of `sweep_table`."""
    return f"{model}: the fitting batch with the highest decode throughput"


def sweep_table(best: pd.DataFrame) -> Table:
    """One line for each row of `best_rows`; without a batch where none fits."""
    return Table(COLUMNS, tuple(plain_rows(best)))
