"""Prefill: the prompts in one pass, in chunks, or after a cached prefix."""

from collections.abc import Iterator

from predict.answers.arithmetic import product, quotient, seconds
from predict.answers.lines import Line, Note, Weight
from predict.answers.question import Question
from predict.answers.sections.timing import expected, flop_share, rule, terms, too_many
from predict.answers.times import prefill_times
from predict.expected.whole_model import Measured
from predict.gpus import ridge_flop_per_byte
from predict.model.replica import Replica
from predict.units import Unit


def prefill(q: Question) -> Iterator[Line | Note]:
    """The prompts in one pass and, if asked, in chunks or after a cached prefix."""
    ridge = ridge_flop_per_byte(q.gpu.roofs, q.unit)
    arithmetic = quotient(q.peak_flop_per_s, q.bandwidth_bytes_per_s)
    formula = f"peak {q.unit} / DRAM bandwidth"
    yield Line("ridge_flop_per_byte", "ridge", ridge, Unit.FLOP_PER_BYTE, formula, arithmetic)
    if not q.serves:
        yield Note(too_many(q, "times, tokens/s and prices of serving"), Weight.DECISION, in_verdict=True)
        return
    one, all_of_them, tokens = prefill_times(q, 1), prefill_times(q), q.batch * q.seq
    prediction, time_s = all_of_them.bound, all_of_them.bound_s
    intensity = float(prediction.work.flop / prediction.work.bytes)
    formula, arithmetic = "FLOP / (weights + KV cache)", quotient(prediction.work.flop, prediction.work.bytes)
    yield Line("prefill_intensity", "arithmetic intensity", intensity, Unit.FLOP_PER_BYTE, formula, arithmetic)
    yield Line("prefill_s", "time", time_s, Unit.SECONDS, rule(q), terms(prediction), is_detail=True)
    yield Line("prefill_bound", "bound by", str(prediction.bound), Unit.NAME, "the largest term")
    formula = "one prompt alone; no queue, no launch"
    yield Line("ttft_one_s", "TTFT of one prompt", one.bound_s, Unit.SECONDS, formula, terms(one.bound))
    yield from expected(one, "ttft_one_expected_s", "TTFT of one, expected", Measured.TTFT)
    formula = f"all {q.batch:,} prompts in one pass"
    is_one = q.batch == 1
    yield Line("ttft_s", "TTFT of the batch", time_s, Unit.SECONDS, formula, terms(prediction), is_detail=is_one)
    yield from expected(all_of_them, "prefill_expected_s", "TTFT of it, expected", Measured.TTFT, is_detail=is_one)
    formula, arithmetic = "batch x seq / time", f"{product(q.batch, q.seq)} / {seconds(time_s)}"
    yield Line("prefill_tokens_per_s", "prompts", tokens / time_s, Unit.TOKENS_PER_S, formula, arithmetic)
    formula, arithmetic = "FLOP / (time x GPUs x peak)", flop_share(prediction, q)
    yield Line("mfu", "MFU", float(prediction.mfu), Unit.SHARE, formula, arithmetic)
    if q.prefix:
        rest = all_of_them.replica.prefill(
            q.batch, q.seq - q.prefix, cached=q.prefix, mask=q.mask, logits=q.prompt_logits
        )
        label = f"TTFT, {q.prefix} cached"
        yield Line("prefix_ttft_s", label, float(rest.napkin_s), Unit.SECONDS, "the rest of the prompt", terms(rest))
    if q.chunk is not None:
        yield from _chunks(q, all_of_them.replica, q.chunk)
    if q.mfu is None and q.mbu is None:
        layout = " in its layout" if q.gpus > 1 else ""
        yield Note(f"times are bounds at full peak rates, nothing is faster{layout}: --mfu and --mbu lower the roofs")
    if q.logits is None:
        yield Note("prefill projects the last position of a prompt to the vocabulary: --logits all counts every one")


def _chunks(q: Question, replica: Replica, chunk: int) -> Iterator[Line | Note]:
    def part_s(start: int) -> float:
        tokens = min(chunk, q.seq - start)
        part = replica.prefill(q.batch, tokens, cached=start, mask=q.mask, logits=q.prompt_logits)
        return float(part.napkin_s)

    times = [part_s(start) for start in range(0, q.seq, chunk)]
    label = f"in {len(times)} chunk{'s' if len(times) > 1 else ''} of {chunk:,}"
    if chunk >= q.seq:
        yield Note(f"a chunk of {chunk:,} tokens holds the whole prompt: chunked prefill is one pass", Weight.DECISION)
    yield Line("chunked_prefill_s", label, sum(times), Unit.SECONDS, "each chunk reads weights and cache again")
    formula = "the longest chunk: decode waits this long"
    yield Line("chunk_stall_s", "a chunk", max(times), Unit.SECONDS, formula)
