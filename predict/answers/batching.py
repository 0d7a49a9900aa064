"""Decode at several batch sizes. A larger batch makes a step longer but raises the throughput."""

from dataclasses import dataclass

from predict.answers.question import Question
from predict.answers.times import Timed, decode_times
from predict.formulas import money

BATCHES = (1, 4, 16, 64, 256, 1024)


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


def _row(q: Question, batch: int, *, fits: bool) -> BatchRow:
    step = decode_times(q, batch)
    rate = batch / step.bound_s
    return BatchRow(batch, step, float(money.usd_per_1m_tokens(q.usd_per_gpu_hour, rate, q.gpus)), fits)
