"""The answer to a question: every number with its formula and its arithmetic.

The page and the JSON of `python -m predict model` show what `answer` returns. This module covers the model's size,
memory and training; `serving` covers prefill, decode and the price of a token.
"""

from collections.abc import Callable, Iterator

from predict.answers.lines import Answer, Line, Note, Section, Unit, plain
from predict.answers.question import Question
from predict.answers.serving import decode, prefill, serving_money, speculation, too_many
from predict.formulas import memory, money
from predict.formulas.memory import Recompute
from predict.model.passes import Logits, kv_bytes, kv_bytes_per_token, training_step
from predict.model.replica import Replica
from predict.model.transformer import Component
from predict.resources import matmul_unit
from predict.units import DTYPES, both_bytes, percent, si

FLOP_LINES = (
    (Component.MLP, "MLP", "2 x tokens x weights of the MLPs"),
    (Component.ATTENTION_PROJECTIONS, "attention projections", "2 x tokens x weights of Q, K, V, out"),
    (Component.ATTENTION_SCORES, "attention scores", "4 x heads x head_dim x query-key pairs"),
    (Component.VOCAB, "vocabulary", "2 x positions x hidden x vocab"),
)
LATENT_SCORES = "2 x heads x (query + value dim) x query-key pairs"
ZERO_FORMULAS = {1: "weights, gradients + optimizer / GPUs", 2: "weights + the rest / GPUs", 3: "all / GPUs"}
ACTIVATION_FORMULAS = {
    Recompute.NONE: "sbh(34 + 5as/h)",
    Recompute.SELECTIVE: "34sbh",
    Recompute.FLASH: "34sbh",
    Recompute.FULL: "2sbh",
}
KORTHIKANTI = "Korthikanti 2022, for 16 bits, a 4h GELU MLP, dropout; a gated MLP or GQA changes them by up to a third"


def answer(question: Question) -> Answer:
    """Answer everything that is known. Raises MissingCeiling if the GPU has no roof for the compute format."""
    q = question
    tokens = f"{q.batch} x {q.seq} tokens"
    parts = (
        ("Model", _model(q)),
        (f"Forward pass: {tokens}, {q.mask} attention", _flop(q)),
        (f"Memory: {q.gpus} x {q.gpu.name}", _memory(q)),
        (f"Prefill: {tokens}", prefill(q)),
        (f"Decode: batch {q.batch}, {q.context} cached tokens each", decode(q)),
        (
            f"Speculative decoding: {q.draft.name if q.draft else ''} drafts, {percent(q.acceptance)} kept",
            speculation(q),
        ),
        (f"Training: a step of {tokens}, {q.tokens:.4g} tokens in all", _training(q)),
        (f"Money: ${q.usd_per_gpu_hour:g} per GPU-hour", _money(q)),
    )
    sections, notes = [], []
    for title, items in parts:
        found = list(items)
        if lines := tuple(item for item in found if isinstance(item, Line)):
            sections.append(Section(title, lines))
        notes += [item.text for item in found if isinstance(item, Note)]
    return Answer(tuple(sections), tuple(dict.fromkeys(notes)))


def _model(q: Question) -> Iterator[Line | Note]:
    model, active = q.model, q.model.active_params
    formula = "all except the experts not chosen" if model.is_mixture else "all: no experts"
    yield Line("params", "parameters", model.params, Unit.PARAMS, "embeddings + layers + norms", f"{model.params:,}")
    yield Line("active_params", "active for a token", active, Unit.PARAMS, formula, f"{active:,}")
    if model.context_limit:
        yield Line("context_limit", "context limit", model.context_limit, Unit.TOKENS, "longest supported sequence")
        for name, length in (("seq", q.seq), ("context", q.context)):
            if length > model.context_limit:
                yield Note(f"{name}={length} is over the {model.context_limit} tokens that {model.name} supports")


def _flop(q: Question) -> Iterator[Line | Note]:
    work, tokens, active = q.forward(), q.batch * q.seq, q.model.active_params
    total = float(work.flop)
    for component, label, formula in FLOP_LINES:
        flop = plain(work.component_flop(component))
        latent = q.model.is_latent and component is Component.ATTENTION_SCORES
        how = LATENT_SCORES if latent else formula
        yield Line(f"flop_{component}", label, flop, Unit.FLOP, how, f"{percent(flop / total)} of the pass")
    yield Line("forward_flop", "total", plain(work.flop), Unit.FLOP, "the four above", f"{total / tokens:.4g} a token")
    arithmetic = f"2 x {active:.4g} x {tokens}; exact / napkin = {total / (2 * active * tokens):.3f}"
    yield Line("forward_flop_napkin", "napkin", 2 * active * tokens, Unit.FLOP, "2PT", arithmetic)
    if q.logits is Logits.ALL:
        yield Note("logits count for every position, as in training; serving needs only the last one: --logits last")


def _memory(q: Question) -> Iterator[Line | Note]:
    model, bits, usable = q.model, q.weights.bits_per_weight, q.memory_bytes - q.overhead_bytes
    weights = plain(memory.weight_bytes(model.params, bits))
    formula = f"P x {bits:g} bits ({q.weights.name})"
    yield Line("weight_bytes", "weights", weights, Unit.BYTES, formula, f"{model.params:,} x {bits:g} / 8")
    formula = "L x (latent + rotary part)" if model.is_latent else "2 x L x KV heads x head_dim"
    arithmetic = f"{model.kv_elements_per_token:,} elements x {q.kv.bits} bits"
    per_token = plain(kv_bytes_per_token(model, q.kv.bits))
    formula = f"{formula} ({q.kv.name})"
    yield Line("kv_bytes_per_token", "KV cache of a token", per_token, Unit.BYTES, formula, arithmetic)
    cache = plain(kv_bytes(model, q.batch, q.context, q.kv.bits))
    formula = "batch x context x the above" if model.window is None else "batch x tokens in the windows x the above"
    arithmetic = f"{q.batch} x {q.context} x {per_token:,.0f}"
    yield Line("kv_bytes", "KV cache of the batch", cache, Unit.BYTES, formula, arithmetic)
    fewest = plain(memory.min_gpus(weights, q.memory_bytes, q.overhead_bytes))
    formula, arithmetic = (
        "weights / memory of a GPU, rounded up",
        f"{weights:.4g} / {usable:.4g} = {weights / usable:.3f}",
    )
    yield Line("min_gpus_weights", "GPUs for the weights", fewest, Unit.GPUS, formula, arithmetic)
    yield from _nominal(q, "min_gpus_weights", lambda hbm: memory.min_gpus(weights, hbm, q.overhead_bytes))
    if bits < DTYPES["bf16"].bits:
        outside = model.params - sum(block.params for block in model.blocks)
        more = float(memory.weight_bytes(outside) - memory.weight_bytes(outside, bits))
        yield Note(f"checkpoints often keep embeddings and head in 16 bits: {si(more, 'B')} more than weight_bytes")
        if q.weights.name in DTYPES and matmul_unit(DTYPES[q.weights.name]) not in q.gpu.roofs:
            yield Note(f"{q.gpu.name} multiplies no {q.weights.name}: the weights are widened to {q.compute.name}")
    if q.serves:
        yield from _capacity(q, q.replica())
    else:
        yield Note(too_many(q, "kv_capacity_tokens, max_batch and max_context"))


def _capacity(q: Question, replica: Replica) -> Iterator[Line | Note]:
    copies = replica.cache_share * q.gpus
    per_token = plain(kv_bytes_per_token(q.model, q.kv.bits)) * copies
    free = plain(replica.free_bytes)
    capacity = plain(memory.kv_capacity_tokens(free, per_token))
    formula, arithmetic = "free memory / KV of a token", f"({replica.usable_bytes:.5g} - weights) / {per_token:,.0f}"
    yield Line("kv_capacity_tokens", "tokens that fit", capacity, Unit.TOKENS, formula, arithmetic)
    if q.context:
        largest = plain(replica.max_batch(q.context))
        request = plain(replica.resident_kv_bytes(1, q.context))
        arithmetic = f"{max(free, 0):.4g} / {request:.4g}, rounded down"
        formula = "free memory / KV of a request"
        yield Line("max_batch", f"largest batch at {q.context}", largest, Unit.REQUESTS, formula, arithmetic)
        yield from _nominal(q, "max_batch", lambda hbm: q.replica(hbm_bytes=hbm).max_batch(q.context))
    if q.model.window is None:
        longest = plain(memory.max_context(free, per_token, q.batch))
        formula = "tokens that fit / batch"
        yield Line("max_context", f"longest context at {q.batch}", longest, Unit.TOKENS, formula)
    else:
        yield Note("windowed layers cache at most their window: max_batch includes this, kv_capacity_tokens does not")
    needed = plain(replica.weight_bytes) + plain(replica.resident_kv_bytes(q.batch, q.context))
    formula = f"of {both_bytes(replica.usable_bytes)}"
    yield Line("serving_bytes", "weights + KV of the batch", needed, Unit.BYTES, formula)
    if free < 0:
        yield Note(f"the weights do not fit into {both_bytes(replica.usable_bytes)}: times assume that they do")
    elif needed > replica.usable_bytes:
        sizes = f"needs {both_bytes(needed)} of {both_bytes(replica.usable_bytes)}"
        yield Note(f"batch {q.batch} at {q.context} does not fit ({sizes}): times assume that it does")
    if not q.overhead_bytes:
        kept = f"{memory.RUNTIME_OVERHEAD_BYTES:.2g}"
        yield Note(f"CUDA context, NCCL and workspaces are not counted: engines take about --overhead {kept} per GPU")
    if copies > 1:
        yield Note(f"more GPUs ({q.gpus}) than KV heads: the cache is held {copies:g} times; kv_bytes counts it once")
    if q.model.heads % q.gpus:
        yield Note(f"{q.model.heads} heads do not divide by {q.gpus} GPUs: engines refuse or pad; this splits evenly")


def _training(q: Question) -> Iterator[Line | Note]:
    model, tokens = q.model, q.batch * q.seq
    step, done = _train_flop(q)
    active = model.active_params
    yield Line("train_flop", "FLOP of a step", plain(step), Unit.FLOP, "3 x forward", f"{step / tokens:.4g} a token")
    yield Line("train_flop_napkin", "napkin", 6 * active * tokens, Unit.FLOP, "6PT", f"6 x {active:.4g} x {tokens}")
    if done != step:
        formula = "with recomputed FLOP: counts in HFU, not in MFU"
        yield Line("train_hardware_flop", f"recompute {q.recompute}", plain(done), Unit.FLOP, formula)
    yield from _training_state(q)
    yield from _activations(q)
    rate = q.gpus * q.peak_flop_per_s * (q.mfu or 1)
    arithmetic = f"{_timed_flop(q):.4g} / ({q.gpus} x {q.peak_flop_per_s:.4g} x {q.mfu or 1:g})"
    formula = "FLOP / (GPUs x peak x MFU)"
    yield Line("train_step_s", "time of a step", _timed_flop(q) / rate, Unit.SECONDS, formula, arithmetic)
    formula, arithmetic = "steps x time of a step", f"{q.tokens:.4g} / {tokens} steps, 86,400 s a day"
    yield Line("train_days", f"{q.tokens:.4g} tokens", _train_days(q), Unit.DAYS, formula, arithmetic)
    napkin_s = money.train_s(money.train_flop(active, q.tokens), q.gpus, q.peak_flop_per_s, q.mfu or 1)
    formula, days = "6PT / (GPUs x peak x MFU)", plain(napkin_s) / money.SECONDS_PER_DAY
    yield Line("train_days_napkin", "napkin", days, Unit.DAYS, formula)
    if q.compute != DTYPES["bf16"]:
        yield Note(f"training times use the {q.compute.name} peak, as --compute says")


def _training_state(q: Question) -> Iterator[Line | Note]:
    kind, params = q.optimizer, q.model.params
    state = memory.training_state(params, kind)
    total = plain(state.total_bytes)
    formula = f"P x {kind.gradient_bytes:g}"
    yield Line("gradient_bytes", "gradients", plain(state.gradient_bytes), Unit.BYTES, formula)
    formula = f"P x {kind.optimizer_bytes:g}: master copy and two moments" if kind.master_bytes else "two moments"
    yield Line("optimizer_bytes", f"optimizer: {kind.name}", plain(state.optimizer_bytes), Unit.BYTES, formula)
    formula = f"P x {kind.state_bytes_per_param:g}: weights, gradients, optimizer"
    yield Line("training_state_bytes", "training state", total, Unit.BYTES, formula)
    for stage in (1, 2, 3) if q.gpus > 1 else ():
        share = plain(memory.sharded_state(params, stage, q.gpus, kind).total_bytes)
        yield Line(f"zero_{stage}_bytes_per_gpu", f"per GPU, ZeRO-{stage}", share, Unit.BYTES, ZERO_FORMULAS[stage])
    fewest = plain(memory.min_gpus(total, q.memory_bytes, q.overhead_bytes))
    formula = "state / memory of a GPU; without activations"
    yield Line("min_gpus_training", "GPUs for the state", fewest, Unit.GPUS, formula)
    yield from _nominal(q, "min_gpus_training", lambda hbm: memory.min_gpus(total, hbm, q.overhead_bytes))
    if fewest > q.gpus:
        yield Note(f"{q.gpus} GPUs do not hold the training state: training times assume that they do")


def _activations(q: Question) -> Iterator[Line | Note]:
    model = q.model
    for policy in dict.fromkeys((q.recompute, Recompute.NONE, Recompute.SELECTIVE, Recompute.FULL)):
        per_layer = memory.activation_bytes_per_layer(q.batch, q.seq, model.hidden, model.heads, recompute=policy)
        layer, formula = plain(per_layer), ACTIVATION_FORMULAS[policy]
        suffix = "" if policy is q.recompute else f"_{policy}"
        if not suffix:
            label = "activations of a layer"
            yield Line("activation_bytes_per_layer", label, layer, Unit.BYTES, formula, f"recompute {policy}")
        label = f"all, recompute {policy}"
        yield Line(f"activation_bytes{suffix}", label, layer * model.layers, Unit.BYTES, f"L x {formula}")
    logits = plain(memory.logits_bytes(q.batch, q.seq, model.vocab))
    yield Line("logits_bytes", "logits", logits, Unit.BYTES, "6BSV: 16 bits, plus fp32 for the loss")
    yield Note(f"activations: {KORTHIKANTI}")


def _money(q: Question) -> Iterator[Line | Note]:
    hours = _train_days(q) * 24 * q.gpus
    arithmetic = f"{hours:,.0f} x {q.usd_per_gpu_hour:g}"
    yield Line("train_gpu_hours", "training", hours, Unit.GPU_HOURS, "GPUs x days x 24")
    yield Line("train_usd", "training", hours * q.usd_per_gpu_hour, Unit.USD, "GPU-hours x price", arithmetic)
    yield from serving_money(q)


def _train_flop(q: Question) -> tuple[float, float]:
    """FLOP of a step: the model's own, and those including recomputation."""
    step = training_step(q.model, q.batch, q.seq, mask=q.mask)
    done = training_step(q.model, q.batch, q.seq, mask=q.mask, recompute=q.recompute)
    return float(step.flop), float(done.flop)


def _timed_flop(q: Question) -> float:
    """FLOP that the time is computed from. MFU counts the model's own FLOP; the bound includes recomputed FLOP."""
    step, done = _train_flop(q)
    return done if q.mfu is None else step


def _train_days(q: Question) -> float:
    steps = q.tokens / (q.batch * q.seq)
    return steps * _timed_flop(q) / (q.gpus * q.peak_flop_per_s * (q.mfu or 1)) / money.SECONDS_PER_DAY


def _nominal(q: Question, key: str, at: Callable[[float], object]) -> Iterator[Note]:
    """Note if the card's nominal gigabytes give another answer than the memory that NVML reports."""
    if q.hbm_bytes is not None or q.nominal_bytes <= q.overhead_bytes:
        return
    if (nominal := plain(at(q.nominal_bytes))) != plain(at(q.memory_bytes)):
        hbm = f"--hbm {q.nominal_bytes / 1e9:g}e9"
        yield Note(f"{key} would be {nominal:,} with {hbm}; NVML reports {q.memory_bytes:.4g} bytes per GPU")
