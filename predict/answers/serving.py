"""Serving: prefill, decode, the batch that saturates a GPU, speculative decoding, and the price of a token."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from predict.answers.lines import Line, Note, Unit, plain
from predict.answers.question import Question
from predict.errors import BadQuantity, MissingCeiling
from predict.expected.model_pass import expected_decode_s, expected_prefill_s
from predict.formulas import memory, money, serving
from predict.formulas import speculation as drafts
from predict.gpus import ridge_flop_per_byte
from predict.model.passes import Logits, kv_bytes, uncached_step
from predict.model.replica import PassPrediction, Replica
from predict.roofline import Prediction
from predict.units import duration, si
from predict.workloads import Count, FloatArray, Number

LARGEST_BATCH = 65_536  # upper end of the search for a batch
LONGEST_DRAFT = 16


def prefill(q: Question) -> Iterator[Line | Note]:
    """The prompts in one pass and, if asked, in chunks or after a cached prefix."""
    ridge = ridge_flop_per_byte(q.gpu.roofs, q.unit)
    arithmetic = f"{q.peak_flop_per_s:.4g} / {q.bandwidth_bytes_per_s:.4g}"
    formula = f"peak {q.unit} / DRAM bandwidth"
    yield Line("ridge_flop_per_byte", "ridge", ridge, Unit.FLOP_PER_BYTE, formula, arithmetic)
    if not q.serves:
        yield Note(too_many(q, "prefill_s, decode_step_s and numbers derived from them"))
        return
    work, tokens, replica = q.forward(), q.batch * q.seq, q.replica()
    prediction = replica.time(work, tokens)
    time_s = float(prediction.napkin_s)
    intensity = float(work.flop / work.bytes)
    formula = "FLOP / (weights + KV cache)"
    yield Line("prefill_intensity", "arithmetic intensity", intensity, Unit.FLOP_PER_BYTE, formula)
    yield Line("prefill_s", "time", time_s, Unit.SECONDS, _rule(q), _terms(prediction))
    yield Line("prefill_bound", "bound by", str(prediction.bound), Unit.NAME, "the largest term")
    yield Line("ttft_s", "TTFT", time_s, Unit.SECONDS, "prefill; no queue, no launch")
    yield Line("prefill_tokens_per_s", "prompts", tokens / time_s, Unit.TOKENS_PER_S, "batch x seq / time")
    yield Line("mfu", "MFU", float(prediction.mfu), Unit.SHARE, "FLOP / (time x GPUs x peak)")
    if q.prefix:
        rest = replica.prefill(q.batch, q.seq - q.prefix, cached=q.prefix, mask=q.mask, logits=q.logits)
        label = f"TTFT, {q.prefix} cached"
        yield Line("prefix_ttft_s", label, float(rest.napkin_s), Unit.SECONDS, "the rest of the prompt", _terms(rest))
    if q.chunk is not None:
        yield from _chunks(q, replica, q.chunk)
    if q.mfu is None and q.mbu is None:
        yield Note(
            "times are the napkin's bound at full peak rates: nothing is faster; --mfu and --mbu lower the roofs"
        )
    yield from _expected(
        lambda: expected_prefill_s(replica, q.batch, q.seq, q.logits), "prefill_expected_s", "prefill, expected"
    )


def decode(q: Question) -> Iterator[Line | Note]:
    """One step of the batch, and the batch at which decode stops being memory-bound."""
    if not q.serves:
        return
    replica = q.replica()
    step = replica.decode(q.batch, q.context)
    time_s, weights, traffic = float(step.napkin_s), float(step.work.weight_bytes), float(step.bytes)
    yield Line("decode_flop", "FLOP of a step", plain(step.work.flop), Unit.FLOP, "2 x weights x batch + scores")
    arithmetic = f"{si(weights, 'B', 4)} + {si(traffic - weights, 'B', 4)}"
    yield Line("decode_bytes", "bytes of a step", plain(traffic), Unit.BYTES, "weights + KV cache", arithmetic)
    intensity = float(step.work.flop) / traffic
    yield Line("decode_intensity", "arithmetic intensity", intensity, Unit.FLOP_PER_BYTE, "FLOP / bytes")
    yield Line("decode_step_s", "time of a step", time_s, Unit.SECONDS, _rule(q), _terms(step))
    yield Line("decode_bound", "bound by", str(step.bound), Unit.NAME, "the largest term")
    yield Line("tpot_s", "TPOT", time_s, Unit.SECONDS, "a step makes one token per request")
    yield Line("decode_tokens_per_s", "all requests", q.batch / time_s, Unit.TOKENS_PER_S, "batch / time")
    yield Line("mbu", "MBU", float(step.mbu), Unit.SHARE, "bytes / (time x GPUs x bandwidth)")
    yield Line("decode_mfu", "MFU", float(step.mfu), Unit.SHARE, "FLOP / (time x GPUs x peak)")
    yield from _expected(
        lambda: expected_decode_s(replica, q.batch, q.context), "decode_step_expected_s", "step, expected"
    )
    again = replica.time(uncached_step(q.model, q.batch, q.context, formats=q.formats), q.batch * (q.context + 1))
    formula = "every new token recomputes all tokens"
    yield Line("uncached_step_s", "without a KV cache", float(again.napkin_s), Unit.SECONDS, formula, _terms(again))
    if not q.model.tied:
        unread = float(memory.weight_bytes(q.model.embedding_params, q.weights.bits_per_weight))
        yield Note(f"the input embedding ({si(unread, 'B')}) is looked up, not multiplied: no step reads it")
    yield from _saturation(q, replica)


def speculation(q: Question) -> Iterator[Line | Note]:
    """Speculative decoding: the best number of drafted tokens, the speed-up, and the batch at which it stops paying."""
    if q.draft is None or not q.serves:
        return
    if q.gpus > q.draft.heads:
        yield Note(f"speculation: {q.gpus} GPUs cannot share the {q.draft.heads} heads of {q.draft.name}")
        return
    gains = {k: float(_speedup(q, k, q.batch)) for k in range(1, LONGEST_DRAFT + 1)}
    best = max(gains, key=lambda k: gains[k])
    tokens = float(drafts.expected_tokens(q.acceptance, best))
    step_s = float(q.replica().decode(q.batch, q.context).napkin_s)
    formula = f"the k of 1 to {LONGEST_DRAFT} with the largest speed-up"
    yield Line("speculation_k", "tokens to draft", best, Unit.TOKENS, formula)
    yield Line("speculation_tokens", "tokens of a step", tokens, Unit.TOKENS, "(1 - a^(k+1)) / (1 - a)")
    formula = "tokens x step / (k x draft step + check of k+1)"
    yield Line("speculation_speedup", f"speed-up at batch {q.batch}", gains[best], Unit.TIMES, formula)
    yield Line("speculation_tpot_s", "TPOT", step_s / gains[best], Unit.SECONDS, "TPOT / speed-up")
    stops = _first(lambda batch: np.asarray(_speedup(q, best, batch)) <= 1)
    if stops is None:
        yield Note(f"speculation pays at every batch up to {LARGEST_BATCH} with k = {best}")
    else:
        yield Line("speculation_stops_at_batch", "stops paying at", stops, Unit.REQUESTS, f"speed-up 1 with k = {best}")


def serving_money(q: Question) -> Iterator[Line | Note]:
    """Cost of generated and of prompt tokens, and the break-even."""
    if not q.serves:
        return
    replica = q.replica()
    rate = q.batch / float(replica.decode(q.batch, q.context).napkin_s)
    prompts = q.batch * q.seq / float(replica.time(q.forward(), q.batch * q.seq).napkin_s)
    cost = float(money.usd_per_1m_tokens(q.usd_per_gpu_hour, rate, q.gpus))
    formula = "GPUs x price / (tokens/s x 3600) x 1e6"
    arithmetic = f"{q.gpus} x {q.usd_per_gpu_hour:g} / ({rate:,.1f} x 3600) x 1e6"
    yield Line("usd_per_1m_tokens", "1M tokens out", cost, Unit.USD, formula, arithmetic)
    cost_in = float(money.usd_per_1m_tokens(q.usd_per_gpu_hour, prompts, q.gpus))
    arithmetic = f"{prompts:,.1f} tokens/s"
    yield Line(
        "usd_per_1m_prompt_tokens", "1M tokens in", cost_in, Unit.USD, "the same with prefill's rate", arithmetic
    )
    if (price := q.token_price_usd_per_1m) is not None:
        pays = float(money.break_even_tokens_per_s(q.usd_per_gpu_hour, price, q.gpus))
        formula = f"GPUs x price / ${price:g} per 1M tokens out"
        yield Line("break_even_tokens_per_s", "pays from", pays, Unit.TOKENS_PER_S, formula)
        busy = float(money.break_even_utilization(cost, price))
        yield Line("break_even_utilization", "busy at least", busy, Unit.SHARE, "cost / price; above 100 %: never pays")


def too_many(q: Question, keys: str) -> str:
    """The reason why `keys` are absent: more GPUs than heads."""
    return f"no {keys}: {q.gpus} GPUs cannot share the {q.model.heads} heads of one replica; serve with fewer"


def _expected(time_s: Callable[[], float], key: str, label: str) -> Iterator[Line | Note]:
    """The calibrated time of a pass, or a note that says why there is none."""
    try:
        found = time_s()
    except MissingCeiling as error:
        yield Note(f"no expected time, only the bound: {error}")
    else:
        yield Line(key, label, found, Unit.SECONDS, "sum of its kernels, calibrated")


def _chunks(q: Question, replica: Replica, chunk: int) -> Iterator[Line | Note]:
    starts = range(0, q.seq, chunk)
    times = [
        float(replica.prefill(q.batch, min(chunk, q.seq - start), cached=start, mask=q.mask, logits=q.logits).napkin_s)
        for start in starts
    ]
    label = f"in {len(times)} chunks of {chunk}"
    yield Line("chunked_prefill_s", label, sum(times), Unit.SECONDS, "each chunk reads weights and cache again")
    formula = "the longest chunk: decode waits this long"
    yield Line("chunk_stall_s", "a chunk", max(times), Unit.SECONDS, formula)


def _saturation(q: Question, replica: Replica) -> Iterator[Line | Note]:
    ridge, bits, hidden = ridge_flop_per_byte(q.gpu.roofs, q.unit), q.weights.bits_per_weight, q.model.hidden
    weights_only = float(serving.batch_to_saturate(ridge, weight_bits=bits))
    formula = "ridge x bits / 16: weights only"
    yield Line("batch_to_saturate_napkin", "batch to saturate", weights_only, Unit.TOKENS, formula)
    try:
        square = float(serving.batch_to_saturate(ridge, hidden, hidden, weight_bits=bits))
        formula, arithmetic = "hidden x hidden matrix: r / (1 - 2r/H)", f"r = {ridge:.4g}, H = {hidden}"
        yield Line("batch_to_saturate", "with activations", square, Unit.TOKENS, formula, arithmetic)
    except BadQuantity:
        yield Note(f"no batch_to_saturate: a {hidden} x {hidden} matrix is memory-bound at every batch")
    if not q.context:
        return
    saturated = _first(lambda batch: _is_saturated(replica.decode(batch, q.context)))
    if saturated is not None:
        formula = f"FLOP take as long as bytes, at {q.context} cached tokens"
        yield Line("batch_to_saturate_with_kv", "with the KV cache", saturated, Unit.REQUESTS, formula)
    else:
        yield Note(f"no batch_to_saturate_with_kv: at {q.context} cached tokens decode is memory-bound at every batch")
    weights, cache = float(replica.weight_bytes), float(kv_bytes(q.model, 1, q.context, q.kv.bits))
    formula, arithmetic = "weights / KV of a request", f"{weights:.4g} / {cache:.4g}"
    yield Line("kv_crossover_batch", "KV as large as weights", weights / cache, Unit.REQUESTS, formula, arithmetic)


def _first(holds: Callable[[FloatArray], NDArray[np.bool_]]) -> int | None:
    """The smallest batch up to LARGEST_BATCH for which `holds` is true, or None. `holds` must stay true for larger
    batches: the search tries powers of two, then every batch between the two powers around the change."""
    powers = np.array([float(2**power) for power in range(LARGEST_BATCH.bit_length())])
    found = np.flatnonzero(holds(powers))
    if not found.size:
        return None
    batches = np.arange(powers[max(found[0] - 1, 0)], powers[found[0]] + 1)
    return int(batches[np.flatnonzero(holds(batches))[0]])


def _is_saturated(step: PassPrediction) -> NDArray[np.bool_]:
    return np.asarray(step.compute_s >= step.dram_s)


def _speedup(q: Question, k: int, batch: Count) -> Number:
    """Speed-up of drafting k tokens. Both models hold the same context; the target checks k + 1 tokens per request."""
    assert q.draft is not None
    target = q.replica()
    target_s = target.decode(batch, q.context).napkin_s
    draft_s = q.replica(model=q.draft).decode(batch, q.context).napkin_s
    check_s = target.prefill(batch, k + 1, cached=q.context, logits=Logits.ALL).napkin_s
    return drafts.batch_speedup(q.acceptance, k, target_s, draft_s, check_s)


def _rule(q: Question) -> str:
    return "largest of FLOP, bytes, link" + ("" if q.mfu is None and q.mbu is None else " at MFU and MBU")


def _terms(prediction: Prediction) -> str:
    return ", ".join(f"{term.resource} {duration(float(term.time_s))}" for term in prediction.terms)
