"""1. Where does the time go: a decode step over the batch, its memory and its FLOP, and where they meet."""

import itertools
from collections.abc import Iterator

from predict.answers.lines import Line, Use
from predict.answers.question import Question
from predict.answers.sections.decode import decode
from predict.answers.sections.prefill import prefill
from predict.answers.times import decode_times
from predict.resources import Resource
from predict.units import duration
from reports.explore.answered import Answered, Row, mark, numbers_of, texts_of
from reports.explore.charts import ARITHMETIC, BOUND, EXPECTED, LINK, MEMORY, curves, log_seconds, log_sizes
from reports.explore.kernel import KernelFigure, kernel_chart
from reports.explore.section import Section
from reports.explore.state import State
from reports.explore.steps import LARGEST, Steps, decode_steps, steps_of
from reports.explore.unfit import cannot_serve, largest_batch, unfit

KEYS = (
    *("tpot_s", "decode_step_expected_s", "decode_bound", "decode_flop", "decode_bytes", "decode_intensity"),
    *("ridge_flop_per_byte", "batch_to_saturate_napkin", "batch_to_saturate_with_kv", "decode_tokens_per_s", "mbu"),
    "decode_mfu",
)
REGIMES = {
    Resource.DRAM: "memory-bound: reading weights and cache takes longest",
    Resource.LINK: "bound by the link between GPUs",
    Resource.NETWORK: "bound by the network between nodes",
}
SERIES = (BOUND, MEMORY, ARITHMETIC, LINK, EXPECTED)
STEPS = curves("steps", "A decode step over the batch", log_sizes("batch"), log_seconds("time of a step"), SERIES)


def answer(state: State) -> Answered:
    """Times of the batch, and of all others."""
    q = state.question()
    if not q.serves:
        return cannot_serve(q, state.command())
    found = [*itertools.islice(prefill(q), 1), *decode(q)]  # the first line of prefill is the ridge
    lines = {each.key: each.value for each in found if isinstance(each, Line)}
    knee = lines.get("batch_to_saturate_with_kv" if q.context else "batch_to_saturate_napkin")
    assert not isinstance(knee, str)
    largest, refused = largest_batch(q), tuple(unfit(q, Use.SERVE))
    steps = steps_of(state.with_texts(batch="1").asked(), knee, largest)
    return Answered(
        says=(*refused, *_says(q, knee)),
        commands=(state.command(),),
        numbers=tuple(numbers_of(found, KEYS)),
        data={
            "steps": [*step_rows(steps), *step_rows(decode_steps(q, [q.batch]))],
            "steps_marks": list(_marks(q, knee, largest)),
        },
        notes=(*texts_of(found), *([f"no expected time: {steps.reason}"] if steps.reason else [])),
        is_alarm=bool(refused),
    )


def step_rows(steps: Steps) -> Iterator[Row]:
    """A row for each line and batch."""
    lines = [
        (BOUND, steps.bound_s),
        (MEMORY, steps.memory_s),
        (ARITHMETIC, steps.compute_s),
        (LINK, steps.link_s),
        *([(EXPECTED, steps.expected_s)] if steps.expected_s is not None else []),
    ]
    for series, times_s in lines:
        for batch, time_s in zip(steps.batches, times_s.tolist(), strict=True):
            if time_s > 0:
                says = f"batch {batch:,}: {series.name} {duration(time_s, 4)}"
                yield {"x": batch, "y": time_s, "series": series.name, "says": says}


def _marks(q: Question, knee: float | None, largest: int) -> Iterator[Row]:
    marks = [(q.batch, "this batch"), (knee, "knee"), (largest, "most that fits")]
    for place, (batch, label) in enumerate(marks):
        if batch and 1 <= batch <= 2 * LARGEST:
            yield mark(batch, label, f"{label}: {batch:,.0f}", place)


def _says(q: Question, knee: float | None) -> tuple[str, ...]:
    step = decode_times(q).bound
    bound = step.bound
    assert bound is not None
    regime = REGIMES.get(bound, "compute-bound: the FLOP take longest")
    parts = f"memory takes {duration(float(step.dram_s))}, FLOP {duration(float(step.compute_s))}"
    first = f"At batch {q.batch:,} a step is {regime} ({parts})."
    if knee is None:
        return first, "No batch is compute-bound: each request brings its own KV cache, so memory grows with the FLOP."
    return first, f"FLOP take as long as memory from batch {knee:,.0f} on."


KERNEL = KernelFigure(
    "kernel_time",
    kernel_chart("kernel_time", "One matrix of the step, over its rows", "rows of activations (m)"),
    "decode",
    "m",
    lambda q: q.batch,
)

TIME = Section(
    "time",
    "Where does the time go?",
    "Move the batch. A small one is memory-bound: the GPU waits for weights. Without a KV cache (cached tokens 0) a"
    " large one is compute-bound; with one it may never be.",
    answer,
    charts=(STEPS,),
    kernel=KERNEL,
)
