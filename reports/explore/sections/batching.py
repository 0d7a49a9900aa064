"""8. What does a larger batch cost: latency against throughput, the batch that fits, and slots that idle."""

from collections.abc import Iterable, Iterator, Sequence

from predict.answers.lines import Line
from predict.answers.question import Question
from predict.answers.sections.decode import decode
from predict.answers.sections.memory import memory_use
from predict.errors import BadQuantity
from predict.units import Kind, Unit, duration, percent, read_quantity, show
from reports.explore.answered import Answered, Formula, Row, bar, numbers_of, texts_of
from reports.explore.charts import BOUND, EXPECTED, PLAIN, Axis, bars, curves, log_seconds
from reports.explore.section import Section
from reports.explore.slots import Span, continuous_spans, static_spans
from reports.explore.state import State
from reports.explore.steps import Steps, decode_steps, steps_of
from reports.explore.unfit import cannot_serve, largest_batch
from reports.palette import BLUE, GREY

KEYS = (
    *("tpot_s", "decode_step_expected_s", "decode_tokens_per_s", "decode_tokens_per_s_expected", "max_batch"),
    *("kv_crossover_batch", "batch_to_saturate_with_kv"),
)
SLOT_SHARE = "tokens / (slots x steps)"
MOST_REQUESTS, LONGEST_REQUEST = 64, 100_000
TRADE = curves(
    "trade",
    "Throughput of all requests over the time of a token, batch by batch",
    log_seconds("TPOT: what one request waits for a token"),
    Axis("tokens per second of all requests", "format(datum.value, '~s')", is_log=True),
    (BOUND, EXPECTED),
    points=("fits", "does not fit", "this batch"),
)
SLOTS = bars("slots", "Slots of a server, step by step", Axis("steps", PLAIN), ("works", "idles"), (BLUE, GREY))


def answer(state: State) -> Answered:
    """The batch between all others, and the slots of both ways to batch."""
    lengths, slots = _lengths(state["lengths"]), state.size("slots", 1, 64)
    arguments = {"lengths": ",".join(map(str, lengths)), "slots": str(slots)}
    static = Formula("serving.static_batch_utilization", arguments)
    continuous = Formula("serving.continuous_batch_utilization", arguments)
    q = state.question()
    if not q.serves:
        return cannot_serve(q, state.command())
    found = [*memory_use(q), *decode(q)]
    largest = largest_batch(q)
    steps = steps_of(state.with_texts(batch="1").asked(), None, largest)
    waiting, refilled = list(static_spans(lengths, slots)), list(continuous_spans(lengths, slots))
    return Answered(
        says=(_says(q, found, largest), _says_slots(static.value, continuous.value)),
        commands=(state.command(), static.command, continuous.command),
        numbers=(
            *numbers_of(found, KEYS),
            static.number("slots at work, static", Unit.SHARE, SLOT_SHARE, _slot_share(waiting, slots), 1),
            continuous.number("slots at work, continuous", Unit.SHARE, SLOT_SHARE, _slot_share(refilled, slots), 2),
        ),
        data={
            "trade": list(_trade(steps)),
            "trade_points": [*_fitting(steps, largest), *_here(q)],
            "slots": [*_slots("static", waiting), *_slots("continuous", refilled)],
        },
        notes=texts_of(found),
        is_alarm=q.batch > largest,
    )


def _lengths(text: str) -> list[int]:
    """The lengths of a list such as "500,10". Raises BadQuantity."""
    texts = [each for each in text.split(",") if each.strip()]
    if not 1 <= len(texts) <= MOST_REQUESTS:
        raise BadQuantity(f"Tokens of each request takes 1 to {MOST_REQUESTS} numbers, such as 500,10")
    found = [read_quantity(each, "tokens of a request", Kind.SIZE) for each in texts]
    if any(not isinstance(each, int) or not 1 <= each <= LONGEST_REQUEST for each in found):
        raise BadQuantity(f"each request makes 1 to {LONGEST_REQUEST:,} tokens, a whole number")
    return [int(each) for each in found]


def _says(q: Question, found: Iterable[object], largest: int) -> str:
    lines = {each.key: each for each in found if isinstance(each, Line)}
    rate, wait = lines["decode_tokens_per_s"].text, lines["tpot_s"].text
    room = f"Up to {largest:,} requests of {q.context:,} tokens fit." if largest else "Not one request fits."
    return f"Batch {q.batch:,} makes {rate}, and each request waits {wait} for a token. {room}"


def _says_slots(static: float, continuous: float) -> str:
    return (
        f"Static batching keeps the slots at work {percent(static)} of the time, continuous batching"
        f" {percent(continuous)}."
    )


def _slot_share(spans: Sequence[Span], slots: int) -> str:
    tokens = sum(span.end - span.start for span in spans if span.request is not None)
    return f"{tokens:,} / ({slots} x {max(span.end for span in spans):,})"


def _trade(steps: Steps) -> Iterator[Row]:
    for series, times_s in ((BOUND, steps.bound_s), (EXPECTED, steps.expected_s)):
        if times_s is None:
            continue
        for batch, time_s in zip(steps.batches, times_s.tolist(), strict=True):
            says = f"batch {batch:,}, {series.name}: {duration(time_s, 4)}, {show(batch / time_s, Unit.TOKENS_PER_S)}"
            yield {"x": time_s, "y": batch / time_s, "series": series.name, "says": says}


def _fitting(steps: Steps, largest: int) -> Iterator[Row]:
    for batch, time_s in zip(steps.batches, steps.bound_s.tolist(), strict=True):
        by = "fits" if batch <= largest else "does not fit"
        says = f"batch {batch:,}: {duration(time_s, 4)}, {show(batch / time_s, Unit.TOKENS_PER_S)}, {by}"
        yield {"x": time_s, "y": batch / time_s, "by": by, "says": says}


def _here(q: Question) -> Iterator[Row]:
    (time_s,) = decode_steps(q, [q.batch]).bound_s.tolist()
    yield {"x": time_s, "y": q.batch / time_s, "by": "this batch", "says": f"this batch: {q.batch:,}"}


def _slots(way: str, spans: Iterable[Span]) -> Iterator[Row]:
    for span in sorted(spans, key=lambda each: (each.slot, each.start)):
        name = "" if span.request is None else _letters(span.request)
        does = "idles" if span.request is None else f"makes the tokens of request {name}"
        says = f"{way}, slot {span.slot + 1} {does}: steps {span.start:,} to {span.end:,}"
        group = "idles" if span.request is None else "works"
        yield bar(f"{way}, slot {span.slot + 1}", (span.start, span.end), group, name or "·", says)


def _letters(request: int) -> str:
    """A, B, ..., Z, A1, B1, ..."""
    return chr(ord("A") + request % 26) + (str(request // 26) if request >= 26 else "")


BATCHING = Section(
    "batching",
    "What does a larger batch cost?",
    "Throughput rises with the batch until memory or arithmetic ends it; each request waits longer. Below: requests of"
    " different lengths in a server's slots.",
    answer,
    controls=("lengths", "slots"),
    charts=(TRADE, SLOTS),
)
