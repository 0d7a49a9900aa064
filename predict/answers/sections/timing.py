"""How the time of a pass is shown, and why it may be absent."""

from collections.abc import Iterator

from predict.answers.arithmetic import amount, product, seconds
from predict.answers.lines import Line, Note, Weight
from predict.answers.question import Question
from predict.answers.times import Timed
from predict.model.replica import PassPrediction
from predict.roofline import Prediction
from predict.units import Unit


def expected(times: Timed, key: str, label: str, *, is_detail: bool = False) -> Iterator[Line | Note]:
    """The calibrated time of a pass, or a note that says why there is none."""
    if times.expected is None:
        yield Note(f"no expected time, only the bound: {times.reason}", Weight.ABSENT, in_verdict=True)
        return
    parts = " + ".join(seconds(time_s) for time_s in times.expected.times.values())
    formula = "sum of its kernels, calibrated"
    yield Line(key, label, times.expected.time_s, Unit.SECONDS, formula, parts, is_detail)


def rule(q: Question) -> str:
    """The formula of a pass's time."""
    return "largest of FLOP, bytes, link" + ("" if q.mfu is None and q.mbu is None else " at MFU and MBU")


def terms(prediction: Prediction) -> str:
    """The time of each resource alone, of which the longest counts."""
    times = ", ".join(f"{term.resource} {seconds(float(term.time_s))}" for term in prediction.terms)
    return f"max({times})" if len(prediction.terms) > 1 else times


def flop_share(prediction: PassPrediction, q: Question) -> str:
    """The arithmetic of an MFU."""
    time_s, peak = seconds(float(prediction.napkin_s)), product(q.gpus, q.peak_flop_per_s)
    return f"{amount(prediction.work.flop, 'FLOP')} / ({time_s} x {peak})"


def too_many(q: Question, what: str) -> str:
    """The reason why `what` is absent: more GPUs than heads, or an unknown link."""
    return f"no {what}: {q.unserved}"
