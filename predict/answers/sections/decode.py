"""Decode: a step of the batch, and the batch that saturates a GPU."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from predict.answers.arithmetic import number, product, quotient, seconds
from predict.answers.lines import Line, Note, plain
from predict.answers.question import Question
from predict.answers.sections.timing import expected, flop_share, rule, terms
from predict.answers.times import decode_times
from predict.errors import BadQuantity
from predict.expected.whole_model import Measured
from predict.formulas import serving
from predict.gpus import ridge_flop_per_byte
from predict.model.linear import Component
from predict.model.passes import resident_bytes
from predict.model.replica import PassPrediction, Replica
from predict.units import Unit, si
from predict.workloads import FloatArray

LARGEST_BATCH = 65_536  # upper end of the search for a batch


def decode(q: Question) -> Iterator[Line | Note]:
    """One step of the batch, and the batch at which decode stops being memory-bound."""
    if not q.serves:
        return
    times = decode_times(q)
    replica, step, time_s = times.replica, times.bound, times.bound_s
    weights, traffic = float(step.weight_bytes), float(step.bytes)
    flop, scores = plain(step.work.flop), plain(step.work.component_flop(Component.ATTENTION_SCORES))
    formula, arithmetic = "2 x weights x batch + scores", f"{number(flop - scores)} + {number(scores)}"
    yield Line("decode_flop", "FLOP of a step", flop, Unit.FLOP, formula, arithmetic)
    arithmetic = f"{number(weights)} + {number(traffic - weights)}"
    yield Line("decode_bytes", "bytes of a step", plain(traffic), Unit.BYTES, "weights + KV cache", arithmetic)
    intensity = float(step.work.flop) / traffic
    arithmetic = quotient(step.work.flop, traffic)
    yield Line("decode_intensity", "arithmetic intensity", intensity, Unit.FLOP_PER_BYTE, "FLOP / bytes", arithmetic)
    yield Line("decode_step_s", "time of a step", time_s, Unit.SECONDS, rule(q), terms(step), is_detail=True)
    yield Line("decode_bound", "bound by", str(step.bound), Unit.NAME, "the largest term")
    formula = "a step makes one token per request"
    yield Line("tpot_s", "TPOT", time_s, Unit.SECONDS, formula, terms(step))
    yield from expected(times, "decode_step_expected_s", "TPOT, expected", Measured.TPOT)
    arithmetic = f"{q.batch:,} / {seconds(time_s)}"
    yield Line("decode_tokens_per_s", "all requests", q.batch / time_s, Unit.TOKENS_PER_S, "batch / time", arithmetic)
    if times.expected_s is not None:
        rate, arithmetic = q.batch / times.expected_s, f"{q.batch:,} / {seconds(times.expected_s)}"
        label = "all requests, expected"
        yield Line("decode_tokens_per_s_expected", label, rate, Unit.TOKENS_PER_S, "batch / time", arithmetic)
    bandwidth = product(q.gpus, q.bandwidth_bytes_per_s)
    formula, arithmetic = "bytes / (time x GPUs x bandwidth)", f"{number(traffic)} / ({seconds(time_s)} x {bandwidth})"
    yield Line("mbu", "MBU", float(step.mbu), Unit.SHARE, formula, arithmetic)
    formula, arithmetic = "FLOP / (time x GPUs x peak)", flop_share(step, q)
    yield Line("decode_mfu", "MFU", float(step.mfu), Unit.SHARE, formula, arithmetic)
    again = replica.uncached_step(q.batch, q.context)
    formula = "every new token recomputes all tokens"
    yield Line("uncached_step_s", "without a KV cache", float(again.napkin_s), Unit.SECONDS, formula, terms(again))
    if not q.model.tied:
        unread = float(q.model.embedding_bytes(q.formats.weight_bits))
        yield Note(f"the input embedding ({si(unread, 'B')}) is looked up, not multiplied: no step reads it")
    yield from _saturation(q, replica)


def _saturation(q: Question, replica: Replica) -> Iterator[Line | Note]:
    yield from _saturated_by_weights(q)
    if not q.context:
        return
    saturated = first_batch(lambda batch: _is_saturated(replica.decode(batch, q.context)))
    if saturated is not None:
        formula = f"FLOP take as long as bytes, at {q.context} cached tokens"
        yield Line("batch_to_saturate_with_kv", "with the KV cache", saturated, Unit.REQUESTS, formula)
    else:
        yield Note(f"no batch saturates decode at {q.context:,} cached tokens: the KV cache keeps it memory-bound")
    weights, cache = float(replica.weight_bytes), float(resident_bytes(q.model, 1, q.context, q.formats))
    formula, arithmetic = "weights / KV of a request", quotient(weights, cache)
    yield Line("kv_crossover_batch", "KV as large as weights", weights / cache, Unit.REQUESTS, formula, arithmetic)


def _saturated_by_weights(q: Question) -> Iterator[Line | Note]:
    """The tokens that make weights take as long as FLOP, without a cache. A mixture reads all experts that any token
    chose but multiplies each token by a few, so that it needs as many times more tokens."""
    ridge, bits, model = ridge_flop_per_byte(q.gpu.roofs, q.unit), q.weight_bits, q.model
    more = model.multiplied_weights / model.active_weights
    weights_only = float(serving.batch_to_saturate(ridge, weight_bits=bits)) * more
    formula, arithmetic = "ridge x bits / 16: weights only", f"{ridge:.6g} x {bits:.6g} / 16"
    if more > 1:
        formula = "ridge x bits / 16 x weights / those of a token"
        arithmetic += f" x {model.multiplied_weights:,} / {model.active_weights:,}"
    yield Line("batch_to_saturate_napkin", "batch to saturate", weights_only, Unit.TOKENS, formula, arithmetic)
    width = model.hidden
    inner, each, formula = width, 1.0, "hidden x hidden matrix: r / (1 - 2r/H)"
    if experts := model.experts:
        inner, each = experts.intermediate, experts.copies / experts.active
        formula = "an expert's matrix: experts / active x r / (1 - r/H - r/I)"
    try:
        rows = float(serving.batch_to_saturate(ridge, width, inner, weight_bits=bits))
    except BadQuantity:
        yield Note(f"no batch saturates a {width} x {inner} matrix with its activations: it is memory-bound at all")
        return
    arithmetic = f"{each:g} x {ridge:.6g} x {bits:.6g} / 16 / (1 - {ridge:.6g} / {width} - {ridge:.6g} / {inner})"
    yield Line("batch_to_saturate", "with activations", rows * each, Unit.TOKENS, formula, arithmetic)


def first_batch(holds: Callable[[FloatArray], NDArray[np.bool_]]) -> int | None:
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
