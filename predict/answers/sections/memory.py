"""Memory: weights, KV cache, what the engine keeps, and what fits."""

from collections.abc import Callable, Iterator

from predict.answers.arithmetic import quotient, rounded_up
from predict.answers.lines import Line, Note, Weight, plain
from predict.answers.question import Question
from predict.answers.sections.cache import cache
from predict.answers.sections.capacity import capacity
from predict.answers.sections.formats import format_notes, weight_arithmetic
from predict.answers.sections.timing import too_many
from predict.formulas import memory
from predict.model.working_set import pass_tokens
from predict.units import GB, Unit, si


def memory_use(q: Question) -> Iterator[Line | Note]:
    """Bytes of weights and cache, the fewest GPUs, and what fits beside the weights."""
    kept = q.reserved_bytes
    weights = plain(q.model.stored_bytes(q.formats.weight_bits))
    formula, arithmetic = weight_arithmetic(q)
    yield Line("weight_bytes", "weights", weights, Unit.BYTES, formula, arithmetic)
    yield from cache(q)
    yield from _reserved(q, plain(kept))
    fewest = plain(memory.min_gpus(weights, q.memory_bytes, kept))
    formula, arithmetic = "weights / memory of a GPU, rounded up", rounded_up(quotient(weights, q.memory_bytes - kept))
    yield Line("min_gpus_weights", "GPUs for the weights", fewest, Unit.GPUS, formula, arithmetic)
    yield from nominal(q, "GPUs for the weights", lambda hbm: memory.min_gpus(weights, hbm, kept))
    yield from format_notes(q)
    if not q.serves:
        yield Note(too_many(q, "tokens that fit, largest batch and longest context"), Weight.DECISION, in_verdict=True)
        return
    yield from capacity(q, q.roomiest_replica())
    if q.context:
        yield from nominal(q, "the largest batch", lambda hbm: q.roomiest_replica(hbm_bytes=hbm).max_batch(q.context))


def _reserved(q: Question, kept: float) -> Iterator[Line | Note]:
    """What the engine keeps of each GPU."""
    if q.overhead_bytes is not None:
        yield Line("engine_bytes_per_gpu", "kept by the engine", kept, Unit.BYTES, "of each GPU, as --overhead says")
        if not kept:
            yield Note("the engine's own memory is not counted: CUDA context, NCCL, workspaces, activations of a pass")
        return
    runtime, tokens = q.training_reserved_bytes, pass_tokens(q.memory_bytes)
    parts = f"runtime {si(runtime, 'B')}, a pass of {tokens:,} tokens {si(kept - runtime, 'B')}"
    yield Line("engine_bytes_per_gpu", "kept by the engine", kept, Unit.BYTES, f"of each GPU: {parts}")
    yield Note(f"an engine keeps {si(kept, 'B')} of each GPU ({parts}); --overhead 0 counts bare memory")


def nominal(q: Question, what: str, at: Callable[[float], object]) -> Iterator[Note]:
    """Note if the card's nominal gigabytes give another answer than the memory that the driver reports."""
    if q.hbm_bytes is not None or q.nominal_bytes <= (q.overhead_bytes or 0):
        return
    if (nominal := plain(at(q.nominal_bytes))) != plain(at(q.memory_bytes)):
        hbm = f"--hbm {q.nominal_bytes / GB:g}GB"
        yield Note(f"{what} would be {nominal:,} with {hbm}: the driver reports {si(q.memory_bytes, 'B', 4)} per GPU")
