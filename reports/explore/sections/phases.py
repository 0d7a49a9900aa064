"""5. A request in time: the prompt in one pass, then a token a step, and how much of the GPU each phase uses."""

from collections.abc import Iterator
from dataclasses import replace

from predict.answers.lines import Use
from predict.answers.sections.decode import decode
from predict.answers.sections.prefill import prefill
from predict.answers.times import Timed, decode_times, prefill_times
from predict.units import Unit, duration, percent
from reports.explore.answered import Answered, Formula, Number, Row, bar, numbers_of, texts_of
from reports.explore.charts import SHARE, Axis, bars
from reports.explore.kernel import KernelFigure, kernel_chart
from reports.explore.section import Section
from reports.explore.state import State
from reports.explore.unfit import cannot_serve, unfit
from reports.palette import GREEN, RED
from reports.report.charts import SECONDS

PROMPT_KEYS = ("ttft_one_s", "ttft_one_expected_s")
STEP_KEYS = ("tpot_s", "decode_step_expected_s", "decode_bound", "decode_intensity", "decode_mfu", "mbu")
REQUEST = bars("request", "A request in time", Axis("time", SECONDS), ("prefill", "decode"))
USED = bars(
    "used",
    "Share of the GPU that each phase uses, at its bound",
    Axis("share of the peak", SHARE),
    ("FLOP/s", "bandwidth"),
    (RED, GREEN),
)


def answer(state: State) -> Answered:
    """A request alone in prefill, beside the batch in decode. Decode is counted at the mean context of the request."""
    generated = state.size("generated", 2, 10**7)
    state = state.with_texts(context=str(state.question().seq + generated // 2))
    q = state.question()
    command = state.command()
    if not q.serves:
        return cannot_serve(q, command)
    refused = tuple(unfit(q, Use.SERVE))
    prompts, steps = list(prefill(q)), list(decode(q))
    first, step = prefill_times(q, 1), decode_times(q)
    formulas = list(_latencies(first, step, generated))
    shown = (number for place, each in enumerate(formulas) for number in _numbers(*each, place + 1))
    return Answered(
        says=(
            *refused,
            f"The prompt alone takes {duration(first.bound_s)}, each token after the first {duration(step.bound_s)}"
            f" in a batch of {q.batch:,}, with {q.context:,} tokens cached on average.",
            f"Prefill uses {percent(float(first.bound.mfu))} of the FLOP/s, decode {percent(float(step.bound.mfu))}.",
        ),
        commands=(command, *(formula.command for _, formula in formulas)),
        numbers=(
            *numbers_of(prompts, PROMPT_KEYS, group="The prompt, alone"),
            *numbers_of(steps, STEP_KEYS, group=f"A decode step of batch {q.batch:,}"),
            *(replace(number, group="The request") for number in shown),
        ),
        data={"request": list(_bars(first, step, generated)), "used": list(_used(first, step))},
        notes=texts_of([*prompts, *steps]),
        is_alarm=bool(refused),
    )


def _latencies(first: Timed, step: Timed, generated: int) -> Iterator[tuple[str, Formula]]:
    """The time of the whole request: the bound, and the expected one where both parts have it."""
    times = [("request", first.bound_s, step.bound_s)]
    if first.first_token_s is not None and step.expected_s is not None:
        times.append(("request, expected", first.first_token_s, step.expected_s))
    for label, ttft_s, tpot_s in times:
        values = {"ttft_s": repr(ttft_s), "tpot_s": repr(tpot_s), "generated": str(generated)}
        yield label, Formula("serving.latency_s", values)


def _numbers(label: str, formula: Formula, command: int) -> Iterator[Number]:
    ttft_s, tpot_s, generated = formula.arguments.values()
    arithmetic = f"{duration(float(ttft_s), 5)} + ({generated} - 1) x {duration(float(tpot_s), 5)}"
    yield formula.number(label, Unit.SECONDS, "TTFT + (tokens - 1) x TPOT", arithmetic, command)


def _bars(first: Timed, step: Timed, generated: int) -> Iterator[Row]:
    for label, formula in _latencies(first, step, generated):
        ttft_s, name = float(formula.arguments["ttft_s"]), "expected" if "expected" in label else "bound"
        steps = f"{generated - 1:,} x {duration(float(formula.arguments['tpot_s']), 4)}"
        parts = (("prefill", 0.0, ttft_s, duration(ttft_s, 4)), ("decode", ttft_s, formula.value, steps))
        for group, start, end, text in parts:
            says = f"{group}, {name}: {duration(end - start, 4)}"
            yield bar(f"{name}: {group}", (start, end), group, text, says)


def _used(first: Timed, step: Timed) -> Iterator[Row]:
    for phase, pass_ in (("prefill", first.bound), ("decode", step.bound)):
        for group, share in (("FLOP/s", float(pass_.mfu)), ("bandwidth", float(pass_.mbu))):
            text = percent(share)
            says = f"{phase} uses {text} of the {group}"
            yield bar(f"{phase}: {group}", (0, share), group, text, says)


KERNEL = KernelFigure(
    "kernel_phases",
    kernel_chart("kernel_phases", "Attention of prefill, over the prompt", "tokens of the prompt"),
    "prefill",
    "seq",
    lambda q: q.seq,
)

PHASES = Section(
    "phases",
    "What does a request do?",
    "Change the prompt and the tokens that are made. Prefill has work for the whole GPU; decode waits for memory, token"
    " by token.",
    answer,
    controls=("generated",),
    charts=(REQUEST, USED),
    kernel=KERNEL,
)
