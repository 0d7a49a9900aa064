"""What the engine keeps of a request: keys and values, windows, index keys, and states of a fixed size."""

from collections.abc import Iterator

from predict.answers.arithmetic import product
from predict.answers.lines import Line, Note, plain
from predict.answers.question import Question
from predict.model.attention import Attention
from predict.model.passes import (
    index_bytes_per_token,
    kept_by_layers,
    kv_bytes,
    kv_bytes_beyond_windows,
    kv_bytes_per_token,
    state_bytes,
    window_bytes,
)
from predict.units import Unit
from predict.workloads import stored_bytes


def cache(q: Question) -> Iterator[Line | Note]:
    """Bytes of a token, and of the batch."""
    model, kv = q.model, q.kv_dtype
    per_token = plain(kv_bytes_per_token(model, kv.bits))
    arithmetic = f"{product(model.kv_elements_per_token, kv.bits)} / 8"
    yield Line(
        "kv_bytes_per_token", "KV cache of a token", per_token, Unit.BYTES, f"{_elements(q)} ({kv.name})", arithmetic
    )
    if model.window is not None:
        beyond, windows = plain(kv_bytes_beyond_windows(model, kv.bits)), plain(window_bytes(model, kv.bits))
        formula = "layers without a window or chunks"
        yield Line("kv_bytes_per_token_beyond_windows", "once windows are full", beyond, Unit.BYTES, formula)
        formula = "of a request, when they are full"
        yield Line("window_bytes", "windows and chunks", windows, Unit.BYTES, formula)
    if model.index_elements_per_token:
        index = plain(index_bytes_per_token(model, kv.bits))
        arithmetic = f"{product(model.index_elements_per_token, kv.bits)} / 8"
        formula = f"layers with an indexer x its head_dim ({kv.name})"
        yield Line("index_bytes_per_token", "index keys of a token", index, Unit.BYTES, formula, arithmetic)
        yield Note("index keys are held in the KV cache's format; a step reads them in 8 bits, as engines store them")
    batch = plain(kv_bytes(model, q.batch, q.context, kv.bits))
    formula, arithmetic = _batch_arithmetic(q) if per_token else ("no layer caches tokens", "")
    yield Line("kv_bytes", "KV cache of the batch", batch, Unit.BYTES, formula, arithmetic)
    if states := plain(state_bytes(model, q.batch, q.formats)):
        formula, arithmetic = "batch x states, whatever the context", product(q.batch, states / q.batch)
        yield Line("state_bytes", "states of the batch", states, Unit.BYTES, formula, arithmetic)


def _elements(q: Question) -> str:
    """What a layer caches of a token, as a formula."""
    if q.model.is_latent:
        return "L x (latent + rotary part)"
    if all(isinstance(mixer, Attention) for mixer in q.model.mixers):
        return "2 x L x KV heads x head_dim"
    return "what each layer keeps of a token"


def _batch_arithmetic(q: Question) -> tuple[str, str]:
    """Formula and arithmetic of the batch's cache: layers that keep equally many tokens count together."""
    each: dict[float, float] = {}
    for layers, held in kept_by_layers(q.model):
        if held.store.grows:
            tokens = float(held.reach.kept(q.context))
            each[tokens] = each.get(tokens, 0) + plain(stored_bytes(layers * held.elements, q.kv_dtype.bits))
    terms = [f"{tokens:,.0f} x {size:,.10g}" for tokens, size in each.items()]
    if len(terms) == 1:
        return "batch x tokens that are kept x bytes of a token", f"{q.batch} x {terms[0]}"
    return "batch x sum of tokens that layers keep x bytes of a token", f"{q.batch} x ({' + '.join(terms)})"
