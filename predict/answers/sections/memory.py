"""Memory: weights, KV cache, and what fits."""

from collections.abc import Callable, Iterator

from predict.answers.arithmetic import number, quotient, rounded_down, rounded_up
from predict.answers.lines import Line, Note, Unit, Weight, plain
from predict.answers.question import Question
from predict.answers.sections.cache import cache
from predict.answers.sections.formats import format_notes, weight_arithmetic
from predict.answers.sections.timing import too_many
from predict.formulas import memory
from predict.model.passes import index_bytes_per_token, kv_bytes_per_token
from predict.model.replica import Replica
from predict.units import GB, both_bytes, si


def memory_use(q: Question) -> Iterator[Line | Note]:
    """Bytes of weights and cache, the fewest GPUs, and what fits beside the weights."""
    usable = q.memory_bytes - q.overhead_bytes
    weights = plain(q.model.stored_bytes(q.formats.weight_bits))
    formula, arithmetic = weight_arithmetic(q)
    yield Line("weight_bytes", "weights", weights, Unit.BYTES, formula, arithmetic)
    yield from cache(q)
    fewest = plain(memory.min_gpus(weights, q.memory_bytes, q.overhead_bytes))
    formula, arithmetic = "weights / memory of a GPU, rounded up", rounded_up(quotient(weights, usable))
    yield Line("min_gpus_weights", "GPUs for the weights", fewest, Unit.GPUS, formula, arithmetic)
    yield from nominal(q, "GPUs for the weights", lambda hbm: memory.min_gpus(weights, hbm, q.overhead_bytes))
    yield from format_notes(q)
    if q.serves:
        yield from _capacity(q, q.roomiest_replica())
    else:
        yield Note(too_many(q, "tokens that fit, largest batch and longest context"), Weight.DECISION)


def _capacity(q: Question, replica: Replica) -> Iterator[Line | Note]:
    copies = replica.cache_copies
    growing = kv_bytes_per_token(q.model, q.kv_dtype.bits) + index_bytes_per_token(q.model, q.kv_dtype.bits)
    per_token = plain(growing) * copies
    free = plain(replica.free_bytes)
    room = f"max(0, {number(replica.usable_bytes)} - {number(replica.weight_bytes)})"
    if per_token:
        capacity = plain(memory.kv_capacity_tokens(free, per_token))
        formula, arithmetic = "free memory / KV of a token", rounded_down(f"{room} / {number(per_token)}")
        yield Line("kv_capacity_tokens", "tokens that fit", capacity, Unit.TOKENS, formula, arithmetic)
    else:
        yield Note("no layer caches tokens: the context takes no memory, and every length fits")
    if q.context:
        largest = plain(replica.max_batch(q.context))
        request, dp = plain(replica.resident_kv_bytes(1, q.context)), replica.layout.dp
        each = rounded_down(f"{room} / {number(dp * request)}")
        arithmetic = each if dp == 1 else f"{dp} x {each}"
        formula = "free memory / KV of a request"
        yield Line("max_batch", f"largest batch at {q.context:,}", largest, Unit.REQUESTS, formula, arithmetic)
        yield from nominal(q, "the largest batch", lambda hbm: q.roomiest_replica(hbm_bytes=hbm).max_batch(q.context))
    if q.model.window is None and per_token:
        longest = plain(replica.max_context(q.batch))
        formula = "tokens that fit / batch"
        yield Line("max_context", f"longest context at {q.batch:,}", longest, Unit.TOKENS, formula)
    elif q.model.window is not None:
        yield Note("layers with a window cache at most that: counted in the largest batch, not in the tokens that fit")
    held = plain(replica.weight_bytes), plain(replica.resident_kv_bytes(q.batch, q.context))
    needed, arithmetic = sum(held), " + ".join(map(number, held))
    formula = f"of {both_bytes(replica.usable_bytes)}"
    yield Line("serving_bytes", "weights + KV of the batch", needed, Unit.BYTES, formula, arithmetic)
    if free < 0:
        usable = both_bytes(replica.usable_bytes)
        yield Note(f"the weights do not fit into {usable}: times assume that they do", Weight.DECISION)
    elif needed > replica.usable_bytes:
        sizes = f"needs {both_bytes(needed)} of {both_bytes(replica.usable_bytes)}"
        yield Note(
            f"batch {q.batch:,} at {q.context:,} does not fit ({sizes}): times assume that it does", Weight.DECISION
        )
    if not q.overhead_bytes:
        kept = f"{memory.RUNTIME_OVERHEAD_BYTES / GB:g}GB"
        yield Note(f"CUDA context, NCCL and workspaces are not counted: engines take about --overhead {kept} per GPU")
    if copies > 1:
        tp = replica.layout.tp
        yield Note(f"more GPUs ({tp}) than KV heads: the cache is held {copies:g} times, and counted once above")
    if q.model.heads % (tp := q.replica().layout.tp):
        heads = f"{q.model.heads} heads do not divide by {tp} GPUs"
        yield Note(f"{heads}: engines refuse or pad; this splits evenly", Weight.DECISION)


def nominal(q: Question, what: str, at: Callable[[float], object]) -> Iterator[Note]:
    """Note if the card's nominal gigabytes give another answer than the memory that the driver reports."""
    if q.hbm_bytes is not None or q.nominal_bytes <= q.overhead_bytes:
        return
    if (nominal := plain(at(q.nominal_bytes))) != plain(at(q.memory_bytes)):
        hbm = f"--hbm {q.nominal_bytes / GB:g}GB"
        yield Note(f"{what} would be {nominal:,} with {hbm}: the driver reports {si(q.memory_bytes, 'B', 4)} per GPU")
