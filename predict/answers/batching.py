"""Decode at several batch sizes. A larger batch makes a step longer but raises the throughput."""

from collections.abc import Mapping
from dataclasses import dataclass

from predict.answers.question import Question
from predict.answers.times import Timed, decode_times
from predict.formulas import money
from predict.table import Column, Table
from predict.units import Unit

BATCHES = (1, 4, 16, 64, 256, 1024)
COLUMNS = (
    Column("batch", "batch", Unit.REQUESTS, is_key=True),
    Column("compute_s", "FLOP", Unit.SECONDS),
    Column("weights_s", "weights", Unit.SECONDS),
    Column("cache_s", "KV cache", Unit.SECONDS),
    Column("link_s", "link", Unit.SECONDS),
    Column("step_s", "step", Unit.SECONDS),
    Column("expected_s", "expected", Unit.SECONDS),
    Column("tokens_per_s", "tokens/s", Unit.TOKENS_PER_S),
    Column("tokens_per_s_per_user", "per user", Unit.TOKENS_PER_S),
    Column("usd_per_1m_tokens", "$ / 1M", Unit.USD),
    Column("fits", "fits"),
    Column("layout", "layout"),  # only where batches differ in it
)


@dataclass(frozen=True, slots=True)
class BatchRow:
    """Decode at one batch size."""

    batch: int
    step: Timed
    usd_per_1m_tokens: float
    fits: bool  # whether the batch fits into memory

    @property
    def tokens_per_s(self) -> float:
        """Tokens per second of all requests together."""
        return self.batch / self.step.bound_s


def batch_rows(question: Question) -> list[BatchRow]:
    """Rows for a few batch sizes, the requested one, and the largest that fits; empty if no replica can serve."""
    if not question.serves:
        return []
    largest = int(question.roomiest_replica().max_batch(max(question.context, 1)))
    batches = {*BATCHES, question.batch, largest} - {0}
    return [_row(question, batch, fits=batch <= largest) for batch in sorted(batches)]


def batch_title(q: Question) -> str:
    """The title of `batch_table`."""
    return f"Decode over the batch, {q.context:,} cached tokens each: latency against throughput"


def batch_table(q: Question) -> Table | None:
    """`batch_rows` as a table; None if no replica can serve."""
    rows = batch_rows(q)
    if not rows:
        return None
    cells = [_cells(row) for row in rows]
    if len({row.step.replica.layout for row in rows}) > 1:
        cells = [{**each, "layout": row.step.replica.layout.text} for each, row in zip(cells, rows, strict=True)]
    return Table(COLUMNS, tuple(cells)).without_empty()


def _cells(row: BatchRow) -> Mapping[str, object]:
    step = row.step.bound
    return {
        "batch": row.batch,
        "compute_s": float(step.compute_s),
        "weights_s": float(step.weights_s),
        "cache_s": float(step.dram_s - step.weights_s),
        "link_s": float(step.link_s) or None,
        "step_s": row.step.bound_s,
        "expected_s": row.step.expected_s,
        "tokens_per_s": row.tokens_per_s,
        "tokens_per_s_per_user": row.tokens_per_s / row.batch,
        "usd_per_1m_tokens": row.usd_per_1m_tokens,
        "fits": row.fits,
    }


def _row(q: Question, batch: int, *, fits: bool) -> BatchRow:
    step = decode_times(q, batch)
    rate = batch / step.bound_s
    return BatchRow(batch, step, float(money.usd_per_1m_tokens(q.usd_per_gpu_hour, rate, q.gpus)), fits)
