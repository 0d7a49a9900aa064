"""What fits beside the weights: tokens, requests, and the longest context; a draft model takes its part."""

from collections.abc import Iterator

from predict.answers.arithmetic import number, rounded_down
from predict.answers.lines import Line, Note, Weight, plain
from predict.answers.question import Question
from predict.formulas import memory
from predict.model.replica import Replica
from predict.units import Unit, both_bytes


def capacity(q: Question, replica: Replica) -> Iterator[Line | Note]:
    """Tokens and requests that fit, what the question's batch takes, and notes on whom these numbers hold for."""
    yield from _drafted(q, replica)
    yield from _tokens(replica)
    if q.context:
        yield from _largest_batch(q, replica)
    yield from _longest_context(q, replica)
    yield from _needed(q, q.replica())
    if replica.cache_copies > 1:
        copies = f"the cache is held {replica.cache_copies:g} times, and counted once above"
        yield Note(f"more GPUs ({replica.layout.tp}) than KV heads: {copies}")
    if q.model.heads % (tp := q.replica().layout.tp):
        heads = f"{q.model.heads} heads do not divide by {tp} GPUs"
        yield Note(f"{heads}: engines refuse or pad; this splits evenly", Weight.DECISION)


def _drafted(q: Question, replica: Replica) -> Iterator[Line | Note]:
    """The draft model's weights and cache, and whether it can draft at all."""
    draft = replica.beside
    if draft is None:
        return
    name = draft.model.name
    yield Line("draft_weight_bytes", f"draft: {name}", plain(draft.weight_bytes), Unit.BYTES, "its weights on all GPUs")
    cache = plain(draft.resident_kv_bytes(q.batch, q.context))
    yield Line("draft_kv_bytes", "draft's KV of the batch", cache, Unit.BYTES, "batch x context x its KV of a token")
    if draft.model.vocab != q.model.vocab:
        words = f"{q.model.name} has {q.model.vocab:,} tokens, {name} {draft.model.vocab:,}"
        yield Note(f"vocabularies differ ({words}): no engine drafts so", Weight.DECISION)


def _tokens(replica: Replica) -> Iterator[Line | Note]:
    if not replica.token_bytes:
        yield Note("no layer caches tokens: the context takes no memory, and every length fits")
        return
    per_token = plain(replica.token_bytes)
    tokens = plain(memory.kv_capacity_tokens(plain(replica.free_bytes), per_token))
    arithmetic = rounded_down(f"{_room(replica)} / {number(per_token)}")
    yield Line("kv_capacity_tokens", "tokens that fit", tokens, Unit.TOKENS, "free memory / KV of a token", arithmetic)


def _room(replica: Replica) -> str:
    """What the weights leave, as arithmetic."""
    return f"max(0, {number(replica.usable_bytes)} - {number(replica.held_weight_bytes)})"


def _largest_batch(q: Question, replica: Replica) -> Iterator[Line | Note]:
    largest, dp = plain(replica.max_batch(q.context)), replica.layout.dp
    request = plain(replica.held_cache_bytes(1, q.context))
    each = rounded_down(f"{_room(replica)} / {number(dp * request)}")
    arithmetic = each if dp == 1 else f"{dp} x {each}"
    formula = "free memory / KV of a request"
    yield Line("max_batch", f"largest batch at {q.context:,}", largest, Unit.REQUESTS, formula, arithmetic)
    fewer = replica.max_batch_of_equal_layers(q.context)
    if fewer < largest:
        yield Note(
            f"the largest batch of {largest:,} holds only where the engine frees what left the window; engines that "
            f"size all layers alike hold {fewer:,}",
            Weight.DECISION,
        )


def _longest_context(q: Question, replica: Replica) -> Iterator[Line | Note]:
    if q.model.window is not None:
        yield Note("layers with a window cache at most that: counted in the largest batch, not in the tokens that fit")
    elif replica.token_bytes:
        longest, dp = plain(replica.max_context(q.batch)), replica.layout.dp
        served, states = -(-q.batch // dp) * dp, plain(replica.held_cache_bytes(-(-q.batch // dp) * dp, 0))
        held = plain(replica.held_weight_bytes) + states
        room = f"max(0, {number(replica.usable_bytes)} - {number(held)})"
        arithmetic = rounded_down(f"{room} / ({number(served)} x {number(replica.token_bytes)})")
        formula = "tokens that fit beside the states / batch" if states else "tokens that fit / batch"
        yield Line("max_context", f"longest context at {q.batch:,}", longest, Unit.TOKENS, formula, arithmetic)


def _copies(replica: Replica) -> Iterator[str]:
    """What the GPUs of the layout hold more than once."""
    if replica.layout.dp > 1:
        yield f"{'all but experts' if replica.model.is_mixture else 'weights'} {replica.layout.dp} times"
    if replica.cache_copies > 1:
        yield f"KV {replica.cache_copies:g} times"


def _needed(q: Question, replica: Replica) -> Iterator[Line | Note]:
    """What the question's batch takes of all GPUs and of each, and whether that is there."""
    usable, free = replica.usable_bytes, plain(replica.free_bytes)
    parts = plain(replica.held_weight_bytes), plain(replica.held_cache_bytes(q.batch, q.context))
    needed, arithmetic = sum(parts), " + ".join(map(number, parts))
    formula = "; ".join([f"of {both_bytes(usable)}", *_copies(replica)])
    label = "weights + KV of the batch" if q.draft is None else "both models and their KV"
    yield Line("serving_bytes", label, needed, Unit.BYTES, formula, arithmetic)
    held = needed / q.gpus + replica.reserved_bytes
    arithmetic = f"{number(needed)} / {number(q.gpus)} + {number(replica.reserved_bytes)}"
    formula = f"of {both_bytes(replica.memory_bytes)}: weights, KV, what the engine keeps"
    yield Line("serving_bytes_per_gpu", "a GPU in all", held, Unit.BYTES, formula, arithmetic)
    if free < 0:
        what = "the weights do" if q.draft is None else "the weights of both models do"
        yield Note(f"{what} not fit into {both_bytes(usable)}: times assume that they do", Weight.DECISION)
    elif needed > usable:
        sizes = f"needs {both_bytes(needed)} of {both_bytes(usable)}"
        yield Note(
            f"batch {q.batch:,} at {q.context:,} does not fit ({sizes}): times assume that it does", Weight.DECISION
        )
