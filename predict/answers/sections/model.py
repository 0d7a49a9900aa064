"""The model's size, and the FLOP of a forward pass."""

from collections.abc import Iterator

from predict.answers.arithmetic import amount, product
from predict.answers.lines import Line, Note, Weight, plain
from predict.answers.question import Question
from predict.model.attention import Attention
from predict.model.linear import Component
from predict.model.passes import Logits
from predict.units import Unit

FLOP_LINES = (
    (Component.MLP, "MLP", "2 x tokens x weights of the MLPs"),
    (Component.ATTENTION_PROJECTIONS, "attention projections", "2 x tokens x weights of Q, K, V, out"),
    (Component.ATTENTION_SCORES, "attention scores", "4 x layers x heads x head_dim x query-key pairs"),
    (Component.VOCAB, "vocabulary", "2 x positions x hidden x vocab"),
    (Component.RECURRENCE, "recurrence", "convolutions, and 4 to 6 x tokens x elements of the states"),
    (Component.RESIDUAL, "residual stream", "2 x tokens x weights of the matrices on it"),
)
IN_EVERY_MODEL = (Component.MLP, Component.ATTENTION_PROJECTIONS, Component.ATTENTION_SCORES, Component.VOCAB)
LATENT_SCORES = "2 x layers x heads x (query + value dim) x query-key pairs"


def model_size(q: Question) -> Iterator[Line | Note]:
    """Parameters, and the longest supported sequence."""
    model, active = q.model, q.model.active_params
    formula = "all except the experts not chosen" if model.is_mixture else "all: no experts"
    yield Line("params", "parameters", model.params, Unit.PARAMS, "embeddings + layers + norms", f"{model.params:,}")
    is_all = active == model.params
    yield Line("active_params", "active for a token", active, Unit.PARAMS, formula, f"{active:,}", is_detail=is_all)
    if model.vision_params:
        formula, arithmetic = "networks beside the decoder: memory only", f"{model.vision_params:,}"
        yield Line("vision_params", "vision and projector", model.vision_params, Unit.PARAMS, formula, arithmetic)
        formula, arithmetic = "decoder + vision", f"{model.params:,} + {model.vision_params:,}"
        yield Line("stored_params", "in the file", model.stored_params, Unit.PARAMS, formula, arithmetic)
    yield from map(Note, model.notes)
    if model.context_limit:
        yield Line("context_limit", "context limit", model.context_limit, Unit.TOKENS, "longest supported sequence")
        said = {q.context: f"a context of {q.context:,} tokens is", q.seq: f"prompts of {q.seq:,} tokens are"}
        for length in sorted(said, reverse=True):
            if length > model.context_limit:
                text = f"{said[length]} over the {model.context_limit:,} that {model.name} supports"
                yield Note(text, Weight.DECISION)


def _score_arithmetic(q: Question, flop: float) -> str:
    """The numbers of the scores where all layers have the same heads and see the same tokens; else none."""
    mixers = set(q.model.mixers)
    if len(mixers) != 1 or not isinstance(mixer := next(iter(mixers)), Attention):
        return ""
    pairs = flop / (4 * q.model.layers * mixer.heads * mixer.head_dim)
    return product(4, q.model.layers, mixer.heads, mixer.head_dim, plain(pairs))


def forward_flop(q: Question) -> Iterator[Line | Note]:
    """FLOP of a forward pass by component, and the napkin's 2PT. Logits count for every position, as in training."""
    work, tokens, active = q.forward(q.logits or Logits.ALL), q.batch * q.seq, q.model.active_params
    positions = q.batch if q.logits is Logits.LAST else tokens
    parts = []
    for component, label, formula in FLOP_LINES:
        flop = plain(work.component_flop(component))
        if not flop and component not in IN_EVERY_MODEL:
            continue
        latent = q.model.is_latent and component is Component.ATTENTION_SCORES
        how = LATENT_SCORES if latent else formula
        is_product = component in (Component.MLP, Component.ATTENTION_PROJECTIONS, Component.VOCAB)
        rows = positions if component is Component.VOCAB else tokens
        arithmetic = product(2, rows, flop / 2 / rows) if is_product else ""
        if component is Component.ATTENTION_SCORES:
            arithmetic = _score_arithmetic(q, flop)
        parts.append(amount(flop, "FLOP"))
        yield Line(f"flop_{component}", label, flop, Unit.FLOP, how, arithmetic)
    yield Line("forward_flop", "total", plain(work.flop), Unit.FLOP, "sum of the above", " + ".join(parts))
    napkin, arithmetic = 2 * active * tokens, product(2, active, tokens)
    yield Line("forward_flop_napkin", "napkin", napkin, Unit.FLOP, "2PT", arithmetic)
