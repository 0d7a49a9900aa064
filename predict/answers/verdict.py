"""The answer in three lines: whether it fits, the numbers that people ask for, and what binds."""

from dataclasses import dataclass

from predict.answers.fit import Fit, nearest_fit, serving_fit, training_fit
from predict.answers.lines import Use
from predict.answers.question import Question
from predict.answers.sections.training import days, expected_mfu, train_step_s
from predict.answers.times import Timed, decode_times, expected_step, prefill_times
from predict.errors import BadModel
from predict.expected.calibrations import is_sibling
from predict.expected.whole_model import POOR, Measured, error_text
from predict.formulas import money
from predict.resources import Resource
from predict.units import duration, people_count, percent, si

PUBLIC = "+- is the median error on public measurements"
TITLES = {Use.SERVE: "Serving", Use.TRAIN: "Training"}  # of the verdicts of a page that has both


@dataclass(frozen=True, slots=True)
class Verdict:
    """Three lines for a person."""

    use: Use
    fits: bool
    lines: tuple[str, str, str]


def verdicts(q: Question, uses: frozenset[Use]) -> tuple[Verdict, ...]:
    """The verdict of each use, serving first."""
    found = {Use.SERVE: serving_verdict, Use.TRAIN: training_verdict}
    return tuple(verdict(q) for use, verdict in found.items() if use in uses)


def verdict_lines(q: Question, uses: frozenset[Use]) -> list[str]:
    """The lines of the verdicts. If there are two, the first line of each names its use."""
    lines: list[str] = []
    for verdict in verdicts(q, uses):
        first, *others = verdict.lines
        lines += [first if len(uses) == 1 else f"{TITLES[verdict.use]}: {first}", *others]
    return lines


def serving_verdict(q: Question) -> Verdict:
    """The verdict on serving the question's batch."""
    if not q.serves:
        return _cannot_serve(q)
    fit = serving_fit(q)
    prompt, prompts, step = prefill_times(q, 1), prefill_times(q), decode_times(q)
    return Verdict(
        Use.SERVE,
        fit.fits,
        (_fit_line(q, fit, Use.SERVE), _times_line(q, prompt, prompts, step), _limits_line(prompts, step)),
    )


def _cannot_serve(q: Question) -> Verdict:
    reason = f"Cannot serve: {q.unserved}."
    return Verdict(
        Use.SERVE, fits=False, lines=(reason, "No times of serving.", "--train shows the training on these GPUs.")
    )


def _fit_line(q: Question, fit: Fit, use: Use) -> str:
    of = f"{_gb(fit.needed_bytes)} of {_gb(fit.usable_bytes)}"
    each = " on a GPU" if use is Use.TRAIN and q.gpus > 1 else ""
    parts = ", ".join(f"{name} {_gb(size)}" for name, size in fit.parts.items())
    if fit.fits:
        room = ""
        if use is Use.SERVE and q.context:
            largest = int(q.roomiest_replica().max_batch(q.context))
            room = f"; up to {largest:,} requests of {q.context:,} tokens"
        return f"Fits: {of}{each} ({parts}){room}."
    near = nearest_fit(q, use)
    if near is None:
        return f"Does not fit: needs {of}{each} ({parts}); no near change makes it fit."
    needs = f"{_gb(near.fit.needed_bytes)} of {_gb(near.fit.usable_bytes)}"
    return f"Does not fit: needs {of}{each} ({parts}); it fits with {near.option} ({needs})."


def _times_line(q: Question, prompt: Timed, prompts: Timed, step: Timed) -> str:
    expects = step.expected_s is not None
    first = f"TTFT {_pair(prompt, prompt.first_token_s, Measured.TTFT)}"
    if q.batch > 1:
        first += f", of all {q.batch:,} prompts {_pair(prompts, prompts.first_token_s, Measured.TTFT)}"
    rates = [q.batch / each for each in (step.bound_s, step.expected_s) if each]
    costs = [float(money.usd_per_1m_tokens(q.usd_per_gpu_hour, rate, q.gpus)) for rate in rates]
    tokens, usd = [_figures(rate) for rate in rates], [f"${_figures(cost)}" for cost in costs]
    rate, price = f"{tokens[0]} tokens/s", f"{usd[0]} per 1M tokens out"
    if expects:
        rate, price = f"{rate} ({tokens[1]})", f"{price} ({usd[1]})"
    each = f"TPOT {_pair(step, step.expected_s, Measured.TPOT)}"
    return f"At best{' (expected)' if expects else ''}: {first}; {each}; {rate}; {price}."


def _limits_line(prompts: Timed, step: Timed) -> str:
    first, second = _resource(prompts), _resource(step)
    binds = f"Prefill is bound by {first}, decode by {second}."
    if first == second:
        binds = f"Prefill and decode are bound by {first}."
    reason = prompts.reason or step.reason
    if reason:
        return f"{binds} No expected times, only bounds: {reason}."
    found = [times.expected for times in (prompts, step) if times.expected]
    said = f"{binds} Expected: {'; '.join(dict.fromkeys(each.rests_on for each in found))}"
    return f"{said}." if all(each.is_poor for each in found) else f"{said}; {PUBLIC}."


def training_verdict(q: Question) -> Verdict:
    """The verdict on training with the question's batch."""
    try:
        fit = training_fit(q)
        fits, held = fit.fits, _fit_line(q, fit, Use.TRAIN)
    except BadModel as error:
        fits, held = False, f"It is not known whether it fits: {error}."
    return Verdict(Use.TRAIN, fits, (held, *_step_lines(q)))


def _step_lines(q: Question) -> tuple[str, str]:
    """Time, rate and cost of training, and what they rest on."""
    found = expected_step(q)
    times = [train_step_s(q)] if isinstance(found, str) else [train_step_s(q), found.time_s]
    rates = [_figures(q.batch * q.seq / step_s / q.gpus) for step_s in times]
    spent = [_spent(q, days(q, step_s)) for step_s in times]
    step, tokens = f"a step of {q.batch:,} x {q.seq:,} tokens takes", f"{people_count(q.tokens)} tokens take"
    reached = "At best" if q.mfu is None else f"At an MFU of {percent(q.mfu)}"
    bound = f"Bound by FLOP in {q.training_dtype.name}."
    if isinstance(found, str):
        said = f"{reached} {step} {duration(times[0])}: {rates[0]} tokens/s per GPU; {tokens} {spent[0]}."
        return said, f"{bound} No expected time: {found}."
    is_poor = q.gpu.name != found.measured_on and not is_sibling(q.gpu, found.measured_on)
    error = error_text(Measured.TRAINING, q.gpu.name, is_poor=is_poor)
    took = f"{duration(times[0])} ({_with_error(times[1], error)})"
    said = (
        f"{reached} (expected) {step} {took}: {rates[0]} tokens/s per GPU"
        f" ({rates[1]}, an MFU of {percent(expected_mfu(q, times[1]))}); {tokens} {spent[0]} ({spent[1]})."
    )
    measured = f"kernels measured on {found.measured_on}"
    rests_on = f"{bound} Expected: {measured}, {found.plan.text}"
    return said, f"{rests_on}." if is_poor else f"{rests_on}; {PUBLIC}."


def _spent(q: Question, of_days: float) -> str:
    """Days and dollars of a training."""
    usd = of_days * 24 * q.gpus * q.usd_per_gpu_hour
    return f"{of_days:,.0f} days and ${usd:,.0f}" if of_days >= 10 else f"{of_days:.3g} days and ${usd:,.0f}"


def _pair(times: Timed, expected_s: float | None, measured: Measured) -> str:
    """The bound and, in parentheses where it is known, the expected time with its error."""
    if expected_s is None or times.expected is None:
        return duration(times.bound_s)
    error = error_text(measured, times.expected.gpu, is_poor=times.expected.is_poor)
    return f"{duration(times.bound_s)} ({_with_error(expected_s, error)})"


def _with_error(expected_s: float, error: str) -> str:
    """28.7 ms +-6 %; 28.7 ms, a poor guess."""
    return f"{duration(expected_s)}{', ' if error == POOR else ' '}{error}"


def _resource(times: Timed) -> str:
    """What takes longest, in words."""
    bound = times.bound.bound
    assert bound is not None
    words = {
        Resource.DRAM: "memory bandwidth",
        Resource.LINK: "the link between GPUs",
        Resource.NETWORK: "the network between nodes",
    }
    return words.get(bound, f"FLOP ({bound})")


def _gb(size_bytes: float) -> str:
    return si(size_bytes, "B")


def _figures(number: float) -> str:
    """Three significant figures, with separators."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
