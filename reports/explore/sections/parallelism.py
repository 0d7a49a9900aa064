"""9. What do more GPUs bring: a pass over 1 to 16 of them, its memory, its FLOP, and what they send each other."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from predict.answers.lines import Use
from predict.answers.question import Question
from predict.answers.sections.decode import decode
from predict.answers.sections.layout import layout
from predict.answers.sections.prefill import prefill
from predict.answers.times import Timed, decode_times, prefill_times
from predict.errors import NapkinError
from predict.resources import Resource
from predict.units import Unit, duration, show, times
from reports.explore.answered import Answered, Row, mark, numbers_of, texts_of
from reports.explore.charts import ARITHMETIC, BOUND, EXPECTED, LINK, MEMORY, curves, log_seconds, log_sizes
from reports.explore.section import Section
from reports.explore.state import Asked, State
from reports.explore.unfit import cannot_serve, unfit

COUNTS = (1, 2, 4, 8, 16)
LAYOUT_KEYS = (
    *("layout", "prefill_layout", "weight_bytes_per_gpu", "kv_bytes_per_gpu", "all_reduce_bytes_per_gpu"),
    *("all_to_all_bytes_per_gpu", "pipeline_bytes_per_gpu", "network_bytes_per_gpu", "prefill_sent_bytes_per_gpu"),
)
TIME_KEYS = {
    "decode": ("tpot_s", "decode_step_expected_s", "decode_bound"),
    "prefill": ("ttft_s", "prefill_expected_s", "prefill_bound"),
}
SERIES = (BOUND, MEMORY, ARITHMETIC, LINK, EXPECTED)
SPREAD = curves(
    "spread", "A pass over more GPUs", log_sizes("GPUs of a replica"), log_seconds("time of the pass"), SERIES
)


@dataclass(frozen=True, slots=True)
class Spread:
    """The pass on so many GPUs, or why there is none."""

    gpus: int
    timed: Timed | None
    reason: str = ""


def answer(state: State) -> Answered:
    """The pass on these GPUs, and on other numbers of them."""
    q, phase = state.question(), state["phase"]
    if not q.serves:
        return cannot_serve(q, state.command())
    found = [*layout(q), *(decode(q) if phase == "decode" else prefill(q))]
    counts = tuple(sorted({*COUNTS, q.gpus}))
    spreads = [_spread(state.with_texts(gpus=str(count)).asked(), phase) for count in counts]
    here = next(each.timed for each in spreads if each.gpus == q.gpus)
    assert here is not None
    refused = tuple(unfit(q, Use.SERVE))
    return Answered(
        says=(*refused, *_says(q, phase, here, spreads[0])),
        commands=(state.command(),),
        numbers=tuple(numbers_of(found, (*TIME_KEYS[phase], *LAYOUT_KEYS))),
        data={
            "spread": [row for each in spreads for row in _rows(each)],
            "spread_marks": [mark(q.gpus, "these GPUs", show(q.gpus, Unit.GPUS))],
        },
        notes=(*texts_of(found), *(f"{show(each.gpus, Unit.GPUS)}: {each.reason}" for each in spreads if each.reason)),
        is_alarm=bool(refused),
    )


@functools.lru_cache(maxsize=256)
def _spread(asked: Asked, phase: str) -> Spread:
    try:
        q = asked.question
        if not q.serves:
            return Spread(q.gpus, None, q.unserved)
        return Spread(q.gpus, _timed(q, phase))
    except NapkinError as error:
        return Spread(int(dict(asked.fields)["gpus"]), None, str(error))


def _timed(q: Question, phase: str) -> Timed:
    return decode_times(q) if phase == "decode" else prefill_times(q)


def _says(q: Question, phase: str, here: Timed, one: Spread) -> tuple[str, ...]:
    bound, sent_s = here.bound, float(here.bound.link_s)
    what = f"{'A step' if phase == 'decode' else 'The prompts'} of batch {q.batch:,} on {q.gpus:,} x {q.gpu.name}"
    first = f"{what}: {duration(here.bound_s)}, in the layout {here.replica.layout.text}."
    if one.timed is not None and q.gpus > 1:
        faster = times(one.timed.bound_s / here.bound_s)
        first = f"{first[:-1]}, {faster} as fast as on one."
    if not sent_s:
        return first, "One GPU sends nothing." if q.gpus == 1 else "These GPUs send each other nothing."
    longest = bound.bound in (Resource.LINK, Resource.NETWORK)
    own_s = max(float(bound.compute_s), float(bound.dram_s))
    binds = "the link bounds the pass" if longest else "their own work bounds the pass"
    return first, f"What they send takes {duration(sent_s)}, their own work {duration(own_s)}: {binds}."


def _rows(spread: Spread) -> Iterator[Row]:
    if spread.timed is None:
        return
    bound, expected_s = spread.timed.bound, spread.timed.expected_s
    parts = [
        (BOUND, spread.timed.bound_s),
        (MEMORY, float(bound.dram_s)),
        (ARITHMETIC, float(bound.compute_s)),
        (LINK, float(bound.link_s)),
        *([(EXPECTED, expected_s)] if expected_s is not None else []),
    ]
    for series, time_s in parts:
        if time_s > 0:
            where = f"{show(spread.gpus, Unit.GPUS)}, {spread.timed.replica.layout.text}"
            says = f"{where}: {series.name} {duration(time_s, 4)}"
            yield {"x": spread.gpus, "y": time_s, "series": series.name, "says": says}


PARALLELISM = Section(
    "parallelism",
    "What do more GPUs bring?",
    "Change the number of GPUs. They share memory and FLOP, whose times fall; what they send each other does not.",
    answer,
    controls=("phase",),
    charts=(SPREAD,),
)
