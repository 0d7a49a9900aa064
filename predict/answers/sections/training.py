"""Training: FLOP, state, activations and time of a step."""

from collections.abc import Iterator

from predict.answers.arithmetic import amount, product, quotient, seconds
from predict.answers.lines import Line, Note, Weight, plain
from predict.answers.question import Question
from predict.answers.sections.training_memory import step_memory, training_state
from predict.answers.times import expected_step
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
    yield from _expected(q, step)
    arithmetic = f"{quotient(q.tokens, tokens)} x {seconds(train_step_s(q))} / 86,400"
    formula = "steps x time of a step"
    yield Line("train_days", f"{people_count(q.tokens)} tokens", train_days(q), Unit.DAYS, formula, arithmetic)
    if (step_s := expected_step_s(q)) is not None:
        arithmetic = f"{quotient(q.tokens, tokens)} x {seconds(step_s)} / 86,400"
        yield Line("train_days_expected", "the same, expected", days(q, step_s), Unit.DAYS, formula, arithmetic)
    napkin_s = money.train_s(money.train_flop(active, q.tokens), q.gpus, q.training_flop_per_s, q.mfu or 1)
    formula, napkin_days = "6PT / (GPUs x peak x MFU)", plain(napkin_s) / money.SECONDS_PER_DAY
    rate = product(q.gpus, q.training_flop_per_s, q.mfu or 1)
    arithmetic = f"{product(6, active, q.tokens)} / ({rate}) / 86,400"
    yield Line("train_days_napkin", "napkin", napkin_days, Unit.DAYS, formula, arithmetic)
    if q.compute not in (None, DTYPES["bf16"]):
        yield Note(f"training times use the {q.training_dtype.name} peak, as --compute says")
    elif q.training_dtype != q.compute_dtype:
        yield Note(f"training times use the {q.training_dtype.name} peak; --compute chooses another")
    if q.gpus > 1:
        yield Note("bounds of training count no traffic between GPUs: gradients and activations are taken to hide")


def train_step_s(q: Question) -> float:
    """Least time of a training step, or the time at the question's MFU."""
    return _timed_flop(q) / (q.gpus * q.training_flop_per_s * (q.mfu or 1))


def expected_step_s(q: Question) -> float | None:
    """Expected time of a training step; None where nothing is calibrated."""
    found = expected_step(q)
    return None if isinstance(found, str) else found.time_s


def expected_mfu(q: Question, step_s: float) -> float:
    """The MFU that a step of `step_s` makes: the model's own FLOP, without recomputed ones, over the peak's."""
    return _train_flop(q)[0] / (q.gpus * q.training_flop_per_s * step_s)


def train_days(q: Question) -> float:
    """Days that the training takes at least."""
    return days(q, train_step_s(q))


def days(q: Question, step_s: float) -> float:
    """Days that the training takes if a step takes `step_s`."""
    steps = q.tokens / (q.batch * q.seq)
    return steps * step_s / money.SECONDS_PER_DAY


def _expected(q: Question, step_flop: float) -> Iterator[Line | Note]:
    """The expected time of a step and its MFU, or why there is none."""
    found = expected_step(q)
    if isinstance(found, str):
        yield Note(f"no expected time of training, only the bound: {found}", Weight.ABSENT, in_verdict=True)
        return
    parts = " + ".join(seconds(time_s) for time_s in found.times.values())
    formula = f"its kernels, one after the other: {found.plan.text}"
    yield Line("train_step_expected_s", "expected", found.time_s, Unit.SECONDS, formula, parts)
    rate = product(q.gpus, q.training_flop_per_s)
    arithmetic = f"{amount(step_flop, 'FLOP')} / ({seconds(found.time_s)} x {rate})"
    formula = "FLOP / (expected time x GPUs x peak)"
    yield Line("train_mfu_expected", "MFU, expected", expected_mfu(q, found.time_s), Unit.SHARE, formula, arithmetic)
    if q.gpus > 1:
        chosen = "the fastest that fits, or nearly: --tp, --pp and --micro-batch ask for another"
        yield Note(f"the expected step is that of {found.plan.text}; {chosen}")


def _train_flop(q: Question) -> tuple[float, float]:
    """FLOP of a step: the model's own, and those including recomputation."""
    step = training_step(q.model, q.batch, q.seq, mask=q.mask)
    done = training_step(q.model, q.batch, q.seq, mask=q.mask, recompute=q.recompute)
    return float(step.flop), float(done.flop)


def _timed_flop(q: Question) -> float:
    """FLOP that the time is computed from. MFU counts the model's own FLOP; the bound includes recomputed FLOP."""
    step, done = _train_flop(q)
    return done if q.mfu is None else step
