"""A log beside the napkin at its load: what was measured, the bound, what is expected, and where a step's time goes.

The bound of TTFT is a prompt by itself, that of TPOT a decode step at the requests that decoded on average, without
prompts. Tokens/s are those of steady continuous batching at the requests in flight, prompts read in the same steps.
Expected TPOT has its share of prompts. The parts of a step add up to the measured one; what neither bound nor
expectation explains is the rest.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from predict.answers.question import Question
from predict.errors import MissingCeiling
from predict.expected.whole_model import MEDIAN_ERROR, Measured
from predict.units import Unit, duration, percent
from reports.served.load import Load
from reports.served.log import ServedLog
from reports.served.steps import Above, First, Least, Loaded

TOLERANCE = 1.001  # a clock's digits: less is no faster than the bound
FEW = 0.7  # of the requests that may be in flight, from which a reader is told that there were fewer
UNEXPLAINED = 0.2  # of a step, from which a reader is told what it may be
QUEUED = 3  # times the expected or least TTFT from which a reader is told where the rest of it is


class Group(StrEnum):
    """What a part of a step's time is."""

    ROOF = "roof"  # of the bound
    PROMPTS = "prompts"  # of other requests, read in the same steps
    ABOVE = "expected above the roof"
    REST = "rest"  # neither


@dataclass(frozen=True, slots=True)
class Row:
    """A number that was measured, beside its bound and what is expected."""

    key: str
    label: str
    unit: Unit
    measured: float | None  # None: the file does not say
    bound: float
    expected: float | None

    @property
    def of_bound(self) -> float | None:
        """The share of the roof that is reached: bound / time, or rate / bound."""
        return self._share(self.bound)

    @property
    def of_expected(self) -> float | None:
        """The same of what is expected."""
        return None if self.expected is None else self._share(self.expected)

    @property
    def is_beaten(self) -> bool:
        """Whether the bound is, which no machine can do."""
        return self.of_bound is not None and self.of_bound > TOLERANCE

    def _share(self, other: float) -> float | None:
        if self.measured is None:
            return None
        return other / self.measured if self.unit is Unit.SECONDS else self.measured / other


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a measured step."""

    key: str
    label: str
    group: Group
    time_s: float  # negative only for a rest: the step was faster than expected
    share: float  # of the step


@dataclass(frozen=True, slots=True)
class Comparison:
    """One run beside the napkin."""

    log: ServedLog
    load: Load
    question: Question
    running: float  # requests that tokens/s are compared at
    decoding: float  # requests that a step is compared at
    step_s: float  # measured, or worked out of the rate where the file has no TPOT
    rows: tuple[Row, ...]
    parts: tuple[Part, ...]  # none where a bound is beaten: an assumption is wrong
    notes: tuple[str, ...]

    def row(self, key: str) -> Row:
        """The row with this key."""
        return next(row for row in self.rows if row.key == key)

    @property
    def beaten(self) -> tuple[Row, ...]:
        """The rows whose bound is beaten."""
        return tuple(row for row in self.rows if row.is_beaten)


def compare_log(log: ServedLog, load: Load, question: Question, remarks: tuple[str, ...] = ()) -> Comparison:
    """Set a run beside the napkin; `remarks` join the notes. Raises the errors of predicting."""
    running, notes = _running(log, load, question)
    decoding = load.decoding or running
    server = Loaded.of(question, load, _reading(log, load))
    least = server.least(decoding)
    first, (above, reason) = server.first(), _above(server, decoding)
    rows = tuple(_rows(log, server, running, first, least, above))
    step_s = _step_s(log, load, running)
    is_possible = not any(row.is_beaten for row in rows) and step_s * TOLERANCE >= least.step_s
    parts = tuple(_parts(step_s, least, above)) if is_possible else ()
    return Comparison(
        log,
        load,
        replace(question, batch=max(1, round(decoding))),
        running,
        decoding,
        step_s,
        rows,
        parts,
        (*remarks, *notes, *_notes(log, first, reason), *_step_notes(log, load, step_s, least, above), *_rest(parts)),
    )


def _running(log: ServedLog, load: Load, q: Question) -> tuple[float, list[str]]:
    """The requests that run together: those in flight as far as memory holds them, at least those that decoded."""
    fitting, decoding = float(q.roomiest_replica().max_batch(load.context)), load.decoding or 0.0
    sent = load.in_flight or float(log.requests or fitting) or 1.0
    running = max(min(sent, fitting) if fitting else sent, decoding)
    notes = []
    if load.in_flight is None:
        held = "as many as memory holds" if running < sent else "all of them"
        notes.append(f"requests in flight are not in the file: {running:,.4g}, {held}; --concurrency gives them")
    elif running < sent:
        notes.append(f"of {sent:,.4g} requests in flight memory holds {running:,.4g}: the others wait")
    if 0 < fitting < decoding:
        notes.append(
            f"{decoding:,.4g} requests decoded where memory should hold {fitting:,.0f}: other formats or GPUs ran"
        )
    most = log.most_in_flight
    if most is not None and load.in_flight is not None and load.in_flight < FEW * most:
        seen = f"{load.in_flight:,.3g} requests in flight of at most {most:,.4g}"
        notes.append(f"{seen}: few waves, a client that is late, or a request rate below what the server can do")
    if not fitting:
        notes.append(f"{q.model.name} ({q.weights_name}) does not fit on {q.gpus} x {q.gpu.name}, so it ran otherwise")
    return running, notes


def _reading(log: ServedLog, load: Load) -> float:
    """The share of prompts that a request sees read while it decodes: not those that the run begins with, and in a
    closed loop not its own. Without TPOT all count, because a step is worked out of the rate."""
    if load.decoding is None or load.in_flight is None:
        return 1.0
    begun = load.in_flight / log.requests if log.requests else 0.0
    most = log.most_in_flight or (load.in_flight if log.asked_per_s is None else None)
    own = 0.0 if most is None else 1 / max(1.0, most)
    return max(0.0, 1 - begun) * (1 - own)


def _above(server: Loaded, decoding: float) -> tuple[Above | None, str]:
    try:
        return server.above(decoding), ""
    except MissingCeiling as error:
        return None, str(error)


def _rows(
    log: ServedLog, server: Loaded, running: float, first: First, least: Least, above: Above | None
) -> Iterator[Row]:
    ttft_s, tpot_s = (None if each is None else each.mean_s for each in (log.ttft, log.tpot))
    load, step_s, made = server.load, least.step_s, server.load.tokens_per_step
    yield Row("ttft_s", "TTFT", Unit.SECONDS, ttft_s, first.least_s, first.expected_s)
    expected_s = None if above is None else (step_s + above.step_s + above.prompts_s) / made
    yield Row("tpot_s", "TPOT", Unit.SECONDS, tpot_s, step_s / made, expected_s)
    rate = server.least_tokens_per_s(running)
    expected = None if above is None else server.expected_tokens_per_s(running)
    total = (load.isl + load.osl) / load.osl
    yield Row("tokens_per_s", "tokens/s out", Unit.TOKENS_PER_S, log.output_tokens_per_s, rate, expected)
    yield Row(
        "total_tokens_per_s",
        "tokens/s in and out",
        Unit.TOKENS_PER_S,
        log.total_tokens_per_s,
        rate * total,
        None if expected is None else expected * total,
    )


def _step_s(log: ServedLog, load: Load, running: float) -> float:
    """The measured time between two steps of a request: TPOT times the tokens that a step makes, or running requests
    over the rate of their tokens (Little's law)."""
    if log.tpot is not None:
        return log.tpot.mean_s * load.tokens_per_step
    assert log.output_tokens_per_s is not None
    return running * load.tokens_per_step * load.osl / (load.osl - 1) / log.output_tokens_per_s


def _parts(step_s: float, least: Least, above: Above | None) -> Iterator[Part]:
    """The parts of a step that is no faster than its bound."""
    prompts_s = min(least.prompts_s if above is None else above.prompts_s, max(0.0, step_s - least.step_s))
    found = [
        ("weights", "weights read", Group.ROOF, least.weights_s),
        ("cache", "KV cache read", Group.ROOF, least.cache_s),
        ("flop", "FLOP beyond these bytes", Group.ROOF, least.flop_s),
        ("link", "sent between GPUs beyond both", Group.ROOF, least.link_s),
        ("prompts", "prompts read", Group.PROMPTS, prompts_s),
    ]
    if above is not None:
        found += [
            ("launches", "launches and element-wise", Group.ABOVE, above.launch_s),
            ("kernels", "kernels below their roofs", Group.ABOVE, above.kernels_s),
            ("between_gpus", "between GPUs", Group.ABOVE, above.link_s),
        ]
    for key, label, group, time_s in found:
        if time_s > 0:
            yield Part(key, label, group, time_s, time_s / step_s)
    rest_s = step_s - sum(time_s for *_, time_s in found if time_s > 0)
    label = "not explained" if rest_s >= 0 else "faster than expected"
    yield Part("rest", label, Group.REST, rest_s, rest_s / step_s)


def _notes(log: ServedLog, first: First, reason: str) -> Iterator[str]:
    """Why numbers are absent, and where a long TTFT is."""
    if log.ttft is None and log.tpot is None:
        yield "TTFT and TPOT are not in the file: a step is the requests in flight over the rate of their tokens"
    elif log.tpot is None:
        yield "TPOT is not in the file: a step is the requests in flight over the rate of their tokens"
    elif log.ttft is None:
        yield "TTFT is not in the file"
    if reason:
        yield f"no expected times of steps ({reason}): launches are part of what is not explained"
    else:
        within = 100 * MEDIAN_ERROR[Measured.IN_FLIGHT]
        yield f"expected tokens/s are within {within:.0f} % of public measurements of servers (median of all GPUs)"
    if first.reason and first.reason not in reason:
        yield f"no expected TTFT: {first.reason}"
    alone_s = first.expected_s or first.least_s
    if log.ttft is not None and log.ttft.mean_s > QUEUED * alone_s:
        rest = duration(log.ttft.mean_s - alone_s)
        yield f"of the TTFT {rest} are no reading of the prompt: waiting for a place, other prompts, steps, the network"


def _rest(parts: tuple[Part, ...]) -> Iterator[str]:
    """What a large rest may be."""
    if parts and parts[-1].share > UNEXPLAINED:
        yield (
            "not explained may be: scheduling and sampling on the host, launches outside graphs, padding, clocks held "
            "by power, requests that failed or came in bursts"
        )


def _step_notes(log: ServedLog, load: Load, step_s: float, least: Least, above: Above | None) -> Iterator[str]:
    """How the parts of a step were found."""
    if load.tokens_per_step > 1:
        made = f"{load.tokens_per_step:.3g}"
        yield f"speculative decoding: a step makes {made} tokens of each request, so it takes {made} TPOT"
    reading = _reading(log, load)
    if 0 < reading < 1:
        yield f"{percent(reading)} of the prompts count in steps: not those that a run begins with, nor a request's own"
    prompts_s = least.prompts_s if above is None else above.prompts_s
    if 0 < step_s - least.step_s < prompts_s:
        yield "prompts take less of a step than in steady state: they were read before, or on other GPUs"
