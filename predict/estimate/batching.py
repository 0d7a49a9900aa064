"""Decode over the batch: how latency buys throughput, and the three times behind it, with the KV cache growing."""

from dataclasses import dataclass

from predict.estimate.question import Question
from predict.formulas import money
from predict.model.passes import decode_step
from predict.resources import Resource

BATCHES = (1, 4, 16, 64, 256, 1024)


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One batch size: times of a step if only FLOP, weights, cache or link counted; `step_s` is the largest, weights
    and cache sharing the DRAM. `fits`: whether memory holds the batch."""

    batch: int
    compute_s: float
    weights_s: float
    cache_s: float
    link_s: float
    step_s: float
    usd_per_1m_tokens: float
    fits: bool

    @property
    def tokens_per_s(self) -> float:
        """Tokens per second of all requests."""
        return self.batch / self.step_s


def batch_rows(question: Question) -> list[BatchRow]:
    """The rows for a few batches, the one asked for, and the largest that fits; none where no replica can serve."""
    if not question.serves:
        return []
    largest = int(question.replica().max_batch(max(question.context, 1)))
    batches = {*BATCHES, question.batch, largest} - {0}
    return [_row(question, batch, fits=batch <= largest) for batch in sorted(batches)]


def _row(q: Question, batch: int, *, fits: bool) -> BatchRow:
    replica, work = q.replica(), decode_step(q.model, batch, q.context, numerics=q.numerics)
    prediction = replica.time(work, batch)
    times = {term.resource: float(term.time_s) for term in prediction.terms}
    weights = float(work.weight_bytes) / q.gpus
    weights_s = times[Resource.DRAM] * weights / float(work.amounts(q.gpus, replica.cache_share).bytes)
    step_s = float(prediction.napkin_s)
    return BatchRow(
        batch=batch,
        compute_s=times[q.unit],
        weights_s=weights_s,
        cache_s=times[Resource.DRAM] - weights_s,
        link_s=times.get(Resource.LINK, 0.0),
        step_s=step_s,
        usd_per_1m_tokens=float(money.usd_per_1m_tokens(q.usd_per_gpu_hour, batch / step_s, q.gpus)),
        fits=fits,
    )
