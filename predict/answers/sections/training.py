"""Training: FLOP, state, activations and time of a step."""

from collections.abc import Iterator

from predict.answers.arithmetic import amount, product, quotient, seconds
from predict.answers.lines import Line, Note, plain
from predict.answers.question import Question
from predict.answers.sections.training_memory import step_memory, training_state
from predict.formulas import money
from predict.model.passes import training_step
from predict.units import DTYPES, Unit, people_count


def training(q: Question) -> Iterator[Line | Note]:
    """A step: FLOP, memory, time; and the days of the whole training."""
    model, tokens = q.model, q.batch * q.seq
    step, done = _train_flop(q)
    active = model.active_params
    yield Line("train_flop", "FLOP of a step", plain(step), Unit.FLOP, "3 x forward", f"3 x {amount(step / 3, 'FLOP')}")
    yield Line("train_flop_napkin", "napkin", 6 * active * tokens, Unit.FLOP, "6PT", product(6, active, tokens))
    if done != step:
        formula = "with recomputed FLOP: counts in HFU, not in MFU"
        yield Line("train_hardware_flop", f"recompute {q.recompute}", plain(done), Unit.FLOP, formula)
    yield from training_state(q)
    yield from step_memory(q)
    rate = product(q.gpus, q.training_flop_per_s, q.mfu or 1)
    arithmetic = f"{amount(_timed_flop(q), 'FLOP')} / ({rate})"
    formula = "FLOP / (GPUs x peak x MFU)"
    yield Line("train_step_s", "time of a step", train_step_s(q), Unit.SECONDS, formula, arithmetic)
    arithmetic = f"{quotient(q.tokens, tokens)} x {seconds(train_step_s(q))} / 86,400"
    formula = "steps x time of a step"
    yield Line("train_days", f"{people_count(q.tokens)} tokens", train_days(q), Unit.DAYS, formula, arithmetic)
    napkin_s = money.train_s(money.train_flop(active, q.tokens), q.gpus, q.training_flop_per_s, q.mfu or 1)
    formula, days = "6PT / (GPUs x peak x MFU)", plain(napkin_s) / money.SECONDS_PER_DAY
    yield Line("train_days_napkin", "napkin", days, Unit.DAYS, formula)
    if q.compute not in (None, DTYPES["bf16"]):
        yield Note(f"training times use the {q.training_dtype.name} peak, as --compute says")
    elif q.training_dtype != q.compute_dtype:
        yield Note(f"training times use the {q.training_dtype.name} peak; --compute chooses another")
    if q.gpus > 1:
        yield Note("training times count no traffic between GPUs: gradients and activations are taken to hide")


def train_step_s(q: Question) -> float:
    """Least time of a training step, or the time at the question's MFU."""
    return _timed_flop(q) / (q.gpus * q.training_flop_per_s * (q.mfu or 1))


def train_days(q: Question) -> float:
    """Days that the training takes."""
    steps = q.tokens / (q.batch * q.seq)
    return steps * train_step_s(q) / money.SECONDS_PER_DAY


def _train_flop(q: Question) -> tuple[float, float]:
    """FLOP of a step: the model's own, and those including recomputation."""
    step = training_step(q.model, q.batch, q.seq, mask=q.mask)
    done = training_step(q.model, q.batch, q.seq, mask=q.mask, recompute=q.recompute)
    return float(step.flop), float(done.flop)


def _timed_flop(q: Question) -> float:
    """FLOP that the time is computed from. MFU counts the model's own FLOP; the bound includes recomputed FLOP."""
    step, done = _train_flop(q)
    return done if q.mfu is None else step
