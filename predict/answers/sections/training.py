"""Training: FLOP, state, activations and time of a step."""

from collections.abc import Iterator

from predict.answers.lines import Line, Note, Unit, Weight, plain
from predict.answers.question import Question
from predict.answers.sections.memory import nominal
from predict.formulas import memory, money
from predict.formulas.memory import Recompute
from predict.model.passes import training_step
from predict.units import DTYPES, people_count

ZERO_FORMULAS = {1: "weights, gradients + optimizer / GPUs", 2: "weights + the rest / GPUs", 3: "all / GPUs"}
ACTIVATION_FORMULAS = {
    Recompute.NONE: "sbh(34 + 5as/h)",
    Recompute.SELECTIVE: "34sbh",
    Recompute.FLASH: "34sbh",
    Recompute.FULL: "2sbh",
}
KORTHIKANTI = "Korthikanti 2022, for 16 bits, a 4h GELU MLP, dropout; a gated MLP or GQA changes them by up to a third"


def training(q: Question) -> Iterator[Line | Note]:
    """A step: FLOP, memory, time; and the days of the whole training."""
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
    rate = q.gpus * q.training_flop_per_s * (q.mfu or 1)
    arithmetic = f"{_timed_flop(q):.4g} / ({q.gpus} x {q.training_flop_per_s:.4g} x {q.mfu or 1:g})"
    formula = "FLOP / (GPUs x peak x MFU)"
    yield Line("train_step_s", "time of a step", _timed_flop(q) / rate, Unit.SECONDS, formula, arithmetic)
    formula, arithmetic = "steps x time of a step", f"{q.tokens:.4g} / {tokens} steps, 86,400 s a day"
    yield Line("train_days", f"{people_count(q.tokens)} tokens", train_days(q), Unit.DAYS, formula, arithmetic)
    napkin_s = money.train_s(money.train_flop(active, q.tokens), q.gpus, q.training_flop_per_s, q.mfu or 1)
    formula, days = "6PT / (GPUs x peak x MFU)", plain(napkin_s) / money.SECONDS_PER_DAY
    yield Line("train_days_napkin", "napkin", days, Unit.DAYS, formula)
    if q.compute not in (None, DTYPES["bf16"]):
        yield Note(f"training times use the {q.training_dtype.name} peak, as --compute says")
    elif q.training_dtype != q.compute_dtype:
        yield Note(f"training times use the {q.training_dtype.name} peak; --compute chooses another")


def train_days(q: Question) -> float:
    """Days that the training takes."""
    steps = q.tokens / (q.batch * q.seq)
    return steps * _timed_flop(q) / (q.gpus * q.training_flop_per_s * (q.mfu or 1)) / money.SECONDS_PER_DAY


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
    yield from nominal(q, "GPUs for the training state", lambda hbm: memory.min_gpus(total, hbm, q.overhead_bytes))
    if fewest > q.gpus:
        who = "1 GPU does" if q.gpus == 1 else f"{q.gpus:,} GPUs do"
        yield Note(f"{who} not hold the training state: training times assume so", Weight.DECISION)


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


def _train_flop(q: Question) -> tuple[float, float]:
    """FLOP of a step: the model's own, and those including recomputation."""
    step = training_step(q.model, q.batch, q.seq, mask=q.mask)
    done = training_step(q.model, q.batch, q.seq, mask=q.mask, recompute=q.recompute)
    return float(step.flop), float(done.flop)


def _timed_flop(q: Question) -> float:
    """FLOP that the time is computed from. MFU counts the model's own FLOP; the bound includes recomputed FLOP."""
    step, done = _train_flop(q)
    return done if q.mfu is None else step
